import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type { Candidate } from './candidate.js';
import type { ClassTexts } from './class-texts.js';
import { curate } from './curate.js';
import { detectFormat } from './detect-format.js';
import { eachConcurrently, Slots } from './each-concurrently.js';
import { ImageCollector } from './image-collector.js';
import { type FetchImage, ImageFetcher } from './image-fetcher.js';
import { ClassTable } from './labels.js';
import type { DatasetLimits } from './limits.js';
import { listUploadCandidates } from './list-upload.js';
import type { CandidateContext } from './listed-candidates.js';
import { CONTENT_FILE, IMAGES_FILE, writeManifest } from './manifest.js';
import { receiveUpload } from './receive-upload.js';
import { type DatasetReport, EntryLog } from './report.js';
import { ZipArchive } from './zip-archive.js';
import { readClassTexts, zipCandidates } from './zip-candidates.js';
import { readLayout } from './zip-layout.js';

/** Images that are fetched at a time, for one upload. */
const FETCHED_AT_ONCE = 16;

/** What goes into a data set besides the upload itself. */
export interface IngestOptions {
  limits: DatasetLimits;
  /** Without it, images behind URLs are refused. */
  fetchImage?: FetchImage;
  /** What the uploader says of the classes; it is asked for once the stream has been read. */
  classTexts?: () => Promise<ClassTexts | null>;
}

/** What an accepted upload turned out to be. */
export interface Ingested {
  /** Size of the upload. */
  bytes: number;
  /** Of the upload. */
  sha256: string;
  classes: string[];
  report: DatasetReport;
}

/**
 * Receives an upload into an empty folder, checks it and leaves it there as a data set: the upload, its images and
 * their manifest. Memory stays bounded whatever the upload is. On failure the folder's contents are worthless.
 * @throws InvalidRequestError or PayloadTooLargeError when it is refused
 */
export async function ingest(stream: Readable, folder: string, options: IngestOptions): Promise<Ingested> {
  const { limits } = options;
  const content = join(folder, CONTENT_FILE);
  const { bytes, sha256 } = await receiveUpload(stream, content, limits.maxUploadBytes);
  const texts = (await options.classTexts?.()) ?? null;
  const log = new EntryLog();
  const fetcher = options.fetchImage ? new ImageFetcher(options.fetchImage, limits) : null;
  const collector = await ImageCollector.create(join(folder, IMAGES_FILE), limits, log);
  try {
    const classes = await collectAll(content, { limits, log, fetcher, texts, collector });
    const curated = curate(collector.images, classes.all(), log, limits.maxReportedRejections);
    await collector.sync();
    await writeManifest(folder, {
      classes: curated.classes,
      descriptions: curated.descriptions,
      images: curated.images,
      imageBytes: collector.imageBytes,
    });
    return { bytes, sha256, classes: curated.classes, report: curated.report };
  } finally {
    await collector.close();
  }
}

interface Collecting extends Omit<CandidateContext, 'classes'> {
  texts: ClassTexts | null;
  collector: ImageCollector;
}

/** Collects the images of an upload of any format. @returns its classes */
async function collectAll(content: string, { texts, collector, ...context }: Collecting): Promise<ClassTable> {
  const format = await detectFormat(content);
  const tableWith = (...said: (ClassTexts | null)[]) =>
    new ClassTable(
      context.limits,
      said.filter((some) => some !== null),
    );
  if (format !== 'zip') {
    const classes = tableWith(texts);
    await collect(listUploadCandidates(content, format, { ...context, classes }), collector, context.fetcher);
    return classes;
  }
  const archive = await ZipArchive.open(content, context.limits);
  try {
    const layout = readLayout(archive.entries, context.log);
    const classes = tableWith(await readClassTexts(archive, layout.classTexts), texts);
    await collect(zipCandidates(archive, layout, { ...context, classes }), collector, context.fetcher);
    return classes;
  } finally {
    await archive.close();
  }
}

/** Decoding keeps processors busy, fetching waits for others: neither waits for the other. */
async function collect(
  candidates: AsyncGenerator<Candidate>,
  collector: ImageCollector,
  fetcher: ImageFetcher | null,
): Promise<void> {
  const local = new Slots(availableParallelism());
  const remote = new Slots(FETCHED_AT_ONCE);
  await eachConcurrently(
    candidates,
    ({ fetchKey }) => (fetchKey === null ? local : remote),
    (candidate) => collector.add(candidate),
    () => fetcher?.stop(),
  );
}
