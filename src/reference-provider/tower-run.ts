/** One run of a tower: what goes to a thread, and what comes back. */

export interface TextRun {
  tower: 'text';
  /** Token ids [rows, length]. */
  ids: Int32Array;
  /** Position of the end token of each row. */
  ends: Int32Array;
  length: number;
  /** Context tokens [context positions, width] that stand in every row from position 1 on. */
  context?: Float32Array;
}

export interface VisionRun {
  tower: 'vision';
  /** [images, 3, size, size] */
  pixels: Float32Array;
}

export type TowerRun = TextRun | VisionRun;

export interface TowerRequest {
  id: number;
  run: TowerRun;
}

/** L2-normalised features [rows, embed_dim], or why there are none. */
export interface TowerAnswer {
  id: number;
  features?: Float32Array<ArrayBuffer>;
  failure?: string;
}

/** What a thread says once: that it is ready, or why it never will be. */
export interface ThreadStart {
  failure?: string;
}

/** What a thread needs to know. */
export interface TowerSetup {
  visionPath: string;
  textPath: string;
  imageSize: number;
  embedDimension: number;
  textWidth: number;
  /** [vocabulary, textWidth], shared by all threads. */
  tokenEmbedding: Float32Array<SharedArrayBuffer>;
}

/** Tells a thread to end when it has done the run that it is at. */
export const END = 'end';
