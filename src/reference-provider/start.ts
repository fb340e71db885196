import type { AddressInfo } from 'node:net';
import { EmojiClip } from './emoji-clip.js';
import type { Misbehaviour } from './misbehaviour.js';
import type { Purchases } from './purchases.js';
import { buildServer, type ReferenceServer, type ServerOptions } from './server.js';

export interface ReferenceProviderOptions extends Omit<ServerOptions, 'model'> {
  /** Directory of the model's files, such as `models/emoji-clip`. */
  modelDirectory: string;
  host?: string;
  /** 0 (the default) takes a free one. */
  port?: number;
  /** Threads for model runs; by default the number of cores, at most four. */
  threads?: number;
  /** Images whose features are remembered. */
  maxCachedImages?: number;
}

export interface RunningReferenceProvider {
  /** Base address without a trailing slash, such as `http://127.0.0.1:40123`. */
  url: string;
  port: number;
  /** What has been served, as `GET /control/usage` reports it. */
  usage: Purchases;
  /** The faults to commit, as `POST /control/misbehave` sets them. */
  misbehaviour: Misbehaviour;
  /** Stops listening, lets requests in progress finish, and frees the model. */
  close(): Promise<void>;
}

/** Loads the reference model and serves it over HTTP. */
export async function startReferenceProvider(options: ReferenceProviderOptions): Promise<RunningReferenceProvider> {
  const { modelDirectory, threads, maxCachedImages, host = '127.0.0.1', port = 0, ...serverOptions } = options;
  const model = await EmojiClip.load({ modelDirectory, threads, maxCachedImages });
  const { app, purchases, misbehaviour } = await buildOrClose({ ...serverOptions, model });
  const close = async () => {
    await app.close();
    await model.close();
  };
  try {
    await app.listen({ host, port });
  } catch (error) {
    await close();
    throw error;
  }
  const address = app.server.address() as AddressInfo;
  const hostname = address.family === 'IPv6' ? `[${address.address}]` : address.address;
  return {
    url: `http://${hostname}:${address.port}`,
    port: address.port,
    usage: purchases,
    misbehaviour,
    close,
  };
}

async function buildOrClose(options: ServerOptions): Promise<ReferenceServer> {
  try {
    return buildServer(options);
  } catch (error) {
    await options.model.close();
    throw error;
  }
}
