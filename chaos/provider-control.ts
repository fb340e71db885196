/** The reference provider's control interface, asked directly, past the proxy. */

export interface Counts {
  prompt_evaluations: number;
  image_queries: number;
  requests: number;
}

const TIMEOUT_MS = 5_000;

export class ProviderControl {
  constructor(private readonly url: string) {}

  /** What it has served to the holder of a key. */
  async served(key: string): Promise<Counts> {
    return (await this.send<{ totals: Counts }>('GET', `/control/usage?key=${encodeURIComponent(key)}`)).totals;
  }

  /** Replaces its plan of faults; an empty one ends them. */
  async misbehave(plan: Record<string, unknown>): Promise<void> {
    await this.send('POST', '/control/misbehave', plan);
  }

  /** How often it has committed each kind of fault since its plan was set. */
  async committed(): Promise<Record<string, number>> {
    return (await this.send<{ committed: Record<string, number> }>('GET', '/control/misbehave')).committed;
  }

  async isReady(): Promise<boolean> {
    return this.send('GET', '/v2/health/ready').then(
      () => true,
      () => false,
    );
  }

  private async send<Answer>(method: string, path: string, body?: unknown): Promise<Answer> {
    const response = await fetch(this.url + path, {
      method,
      headers: body === undefined ? {} : { 'content-type': 'application/json' },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    if (!response.ok) throw new Error(`The provider answered ${method} ${path} with ${response.status}.`);
    return (await response.json()) as Answer;
  }
}
