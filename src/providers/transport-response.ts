/** An answer of a provider, read whole, whatever its status. */
export interface TransportResponse {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: Buffer;
}

export type ObserveAnswer = (answer: TransportResponse, milliseconds: number) => void;
