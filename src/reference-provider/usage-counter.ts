import { createHash } from 'node:crypto';

/** What has been served: computed and handed to the network, whether or not the client received it. */
export interface Usage {
  requests: number;
  /** Prompts scored, summed over requests: P for a request of P prompts. */
  prompt_evaluations: number;
  /** Pairs of prompt and image scored: P × N for a request of P prompts and N images; and images embedded. */
  image_queries: number;
  /** Texts embedded. */
  text_embeddings: number;
}

/** What one request was served: every prompt scored on every image, or embeddings of images and texts. */
export type Served = { prompts: number; images: number } | { embedded: { images: number; texts: number } };

export interface UsageReport {
  keys: Record<string, Usage>;
  totals: Usage;
}

const ANONYMOUS = 'anonymous';
// Where any key is accepted, a client could invent keys without end; those past this many are counted together.
const MAX_CLIENTS = 10_000;
const OTHERS = 'others';

/** The name under which a client key is counted and logged; the key itself cannot be read from it. */
export function clientName(apiKey: string | undefined): string {
  return apiKey === undefined ? ANONYMOUS : `sha256-${createHash('sha256').update(apiKey).digest('hex').slice(0, 16)}`;
}

export class UsageCounter {
  private readonly byClient = new Map<string, Usage>();

  count(clientNamed: string, served: Served): void {
    const client = this.byClient.has(clientNamed) || this.byClient.size < MAX_CLIENTS ? clientNamed : OTHERS;
    const usage = this.byClient.get(client) ?? nothing();
    add(usage, usageOf(served));
    this.byClient.set(client, usage);
  }

  /** Usage of all clients, or of the one with this name or this API key. */
  report(filter?: string): UsageReport {
    const totals = nothing();
    const keys: Record<string, Usage> = {};
    for (const [client, usage] of this.byClient) {
      if (filter !== undefined && filter !== client && clientName(filter) !== client) continue;
      keys[client] = { ...usage };
      add(totals, usage);
    }
    return { keys, totals };
  }

  reset(): void {
    this.byClient.clear();
  }
}

function usageOf(served: Served): Usage {
  if ('embedded' in served) {
    const { images, texts } = served.embedded;
    return { requests: 1, prompt_evaluations: 0, image_queries: images, text_embeddings: texts };
  }
  const { prompts, images } = served;
  return { requests: 1, prompt_evaluations: prompts, image_queries: prompts * images, text_embeddings: 0 };
}

function add(sum: Usage, usage: Usage): void {
  sum.requests += usage.requests;
  sum.prompt_evaluations += usage.prompt_evaluations;
  sum.image_queries += usage.image_queries;
  sum.text_embeddings += usage.text_embeddings;
}

function nothing(): Usage {
  return { requests: 0, prompt_evaluations: 0, image_queries: 0, text_embeddings: 0 };
}
