/** A plain HTTP client for the demo: real requests over a real socket, errors shown as the server words them. */
export class Client {
  constructor(
    private readonly baseUrl: string,
    private readonly apiKey: string,
  ) {}

  get<Answer>(path: string): Promise<Answer> {
    return this.send(path, {});
  }

  post<Answer>(path: string, body: unknown): Promise<Answer> {
    const init = { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
    return this.send(path, init);
  }

  upload<Answer>(path: string, filename: string, content: string): Promise<Answer> {
    const form = new FormData();
    form.set('purpose', 'fine-tune');
    form.set('file', new Blob([content]), filename);
    return this.send(path, { method: 'POST', body: form });
  }

  private async send<Answer>(path: string, init: RequestInit): Promise<Answer> {
    const headers = { ...(init.headers as Record<string, string>), authorization: `Bearer ${this.apiKey}` };
    const response = await fetch(this.baseUrl + path, { ...init, headers });
    const answer = (await response.json()) as { error?: { message: string } };
    if (!response.ok) throw new Error(`${path} answered ${response.status}: ${answer.error?.message}`);
    return answer as Answer;
  }
}
