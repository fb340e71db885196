import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** What a server does with a request that it has read whole. */
export type Script = (request: IncomingMessage, response: ServerResponse, body: Buffer) => void;

/** A server that does with every request what it was told last, and remembers what came. */
export class ScriptedServer {
  /** Requests that were read whole, as method and path. */
  readonly requests: string[] = [];
  /** Requests of which anything was read. */
  arrived = 0;
  private script: Script = (_, response) => response.writeHead(500).end();
  private reading = true;
  private readonly server = createServer((request, response) => {
    this.arrived++;
    if (!this.reading) {
      request.socket.resetAndDestroy();
      return;
    }
    const chunks: Buffer[] = [];
    request.on('error', () => {}).on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
      this.requests.push(`${request.method} ${request.url}`);
      this.script(request, response, Buffer.concat(chunks));
    });
  });

  static async start(): Promise<ScriptedServer> {
    const scripted = new ScriptedServer();
    await new Promise<void>((resolve) => scripted.server.listen(0, '127.0.0.1', resolve));
    return scripted;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** From now on every request is dealt with so; what was remembered is forgotten. */
  play(script: Script): void {
    this.script = script;
    this.reading = true;
    this.forget();
  }

  /** From now on connections are reset before a request has been read. */
  refuseToRead(): void {
    this.reading = false;
    this.forget();
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private forget(): void {
    this.requests.length = 0;
    this.arrived = 0;
  }
}
