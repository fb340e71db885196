/** The Postgres that craft-server brings along cannot be used; the message says why and what to do. */
export class EmbeddedPostgresError extends Error {
  override readonly name = 'EmbeddedPostgresError';

  constructor(problem: string, cause?: unknown) {
    super(
      `The embedded Postgres cannot be used: ${problem} Or set DATABASE_URL to a Postgres of your own.`,
      cause === undefined ? undefined : { cause },
    );
  }
}
