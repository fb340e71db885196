/** What one image may be. */
export interface ImageLimits {
  maxImageBytes: number;
  maxImagePixels: number;
}

/** What one uploaded data set may be. Every limit is there to keep a hostile upload from exhausting the server. */
export interface DatasetLimits extends ImageLimits {
  maxUploadBytes: number;
  /** Entries of a ZIP, or lines of a list. */
  maxEntries: number;
  /** Sum of the uncompressed sizes of a ZIP, and of the bytes of all images wherever they come from. */
  maxExpandedBytes: number;
  /** Uncompressed to compressed size, of each large entry and of the whole ZIP. */
  maxExpansionRatio: number;
  /** Sum over all images: what bounds the time an upload can keep the decoder busy. */
  maxTotalPixels: number;
  /** Time for all images that are fetched from URLs together. */
  maxFetchSeconds: number;
  maxClasses: number;
  maxLabelLength: number;
  /** Rejected entries listed in the report; all are counted. */
  maxReportedRejections: number;
}

/** Pixels of all images in one prediction request: what bounds the time that it can keep the decoder busy. */
export const MAX_REQUEST_PIXELS = 400_000_000;

const MIB = 1024 * 1024;

export const DEFAULT_DATASET_LIMITS: DatasetLimits = {
  maxUploadBytes: 1024 * MIB,
  maxEntries: 100_000,
  maxExpandedBytes: 4096 * MIB,
  maxExpansionRatio: 100,
  maxImageBytes: 20 * MIB,
  maxImagePixels: 50_000_000,
  maxTotalPixels: 20_000_000_000,
  maxFetchSeconds: 1800,
  maxClasses: 1000,
  maxLabelLength: 200,
  maxReportedRejections: 100,
};
