import type { Split } from './manifest.js';

/** An image that an upload claims to have. */
export interface Candidate {
  /** What the report calls it. */
  entry: string;
  /** Its place in the ZIP; null when it is embedded in a line or fetched. */
  name: string | null;
  /** Null unless it is fetched; candidates with the same key are one image, which is loaded once. */
  fetchKey: string | null;
  label: string;
  split: Split;
  /** @throws ImageRefused or EntryUnreadable when its bytes cannot be had */
  load(): Promise<Buffer>;
}
