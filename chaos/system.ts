import type { Books } from './books.js';
import type { Cluster, ClusterOptions } from './cluster.js';
import type { JobKind } from './jobs.js';

/** What all rounds of a run share. */
export interface System {
  options: ClusterOptions;
  cluster: Cluster;
  books: Books;
  kinds: JobKind[];
  /** Digest of the adapter of each kind of job when nothing disturbs it. */
  undisturbed: Map<number, string>;
  /** Jobs that were created so far. */
  created: number;
  log(line: string): void;
}
