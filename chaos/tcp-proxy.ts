import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';

/** A listening port in front of another one, so that connections can be cut and refused at any moment. */
export class TcpProxy {
  private readonly sockets = new Set<Socket>();
  private server: Server | undefined;

  constructor(
    readonly port: number,
    private readonly target: number,
  ) {}

  async open(): Promise<void> {
    if (this.server !== undefined) return;
    const server = createServer((client) => this.join(client));
    server.listen(this.port, '127.0.0.1');
    this.server = server;
    await once(server, 'listening');
  }

  /** Destroys every connection; new ones are accepted. */
  async cut(): Promise<void> {
    const closed = [...this.sockets].map((socket) => (socket.closed ? undefined : once(socket, 'close')));
    for (const socket of this.sockets) socket.destroy();
    await Promise.all(closed);
  }

  /** Destroys every connection and refuses new ones until it is opened again. */
  async close(): Promise<void> {
    this.server?.close();
    this.server = undefined;
    await this.cut();
  }

  private join(client: Socket): void {
    const target = connect(this.target, '127.0.0.1');
    for (const [socket, other] of [
      [client, target],
      [target, client],
    ]) {
      this.sockets.add(socket);
      socket.setNoDelay(true);
      socket.on('error', () => {});
      socket.on('close', () => {
        this.sockets.delete(socket);
        other.destroy();
      });
      socket.pipe(other);
    }
  }
}
