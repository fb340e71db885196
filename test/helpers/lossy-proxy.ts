import type { AddressInfo } from 'node:net';
import { connect, createServer, type Server, type Socket } from 'node:net';

/** A way to a server on this machine that can lose an answer: the request arrives, is served, and nobody hears of it. */
export class LossyProxy {
  private readonly sockets = new Set<Socket>();
  private losing = false;
  /** Answers lost so far. */
  lost = 0;

  private constructor(private readonly server: Server) {}

  static async to(port: number): Promise<LossyProxy> {
    const server = createServer();
    const proxy = new LossyProxy(server);
    server.on('connection', (client) => proxy.join(client, connect(port, '127.0.0.1')));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  /** Cuts the connection in place of the next answer. */
  loseNextAnswer(): void {
    this.losing = true;
  }

  async close(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private join(client: Socket, server: Socket): void {
    const end = () => {
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) {
      this.sockets.add(socket);
      socket
        .on('error', () => {})
        .on('close', () => {
          this.sockets.delete(socket);
          end();
        });
    }
    client.on('data', (bytes) => server.write(bytes));
    server.on('data', (bytes) => {
      if (!this.losing) return client.write(bytes);
      this.losing = false;
      this.lost++;
      end();
    });
  }
}
