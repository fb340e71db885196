import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type { Candidate } from './candidate.js';
import { jsonlCandidates, zipCandidates } from './candidates.js';
import { curate } from './curate.js';
import { detectFormat } from './detect-format.js';
import { eachConcurrently } from './each-concurrently.js';
import { ImageCollector } from './image-collector.js';
import { ClassTable } from './labels.js';
import type { DatasetLimits } from './limits.js';
import { CONTENT_FILE, IMAGES_FILE, writeManifest } from './manifest.js';
import { receiveUpload } from './receive-upload.js';
import { type DatasetReport, EntryLog } from './report.js';
import { ZipArchive } from './zip-archive.js';

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
export async function ingest(stream: Readable, folder: string, limits: DatasetLimits): Promise<Ingested> {
  const content = join(folder, CONTENT_FILE);
  const { bytes, sha256 } = await receiveUpload(stream, content, limits.maxUploadBytes);
  const format = await detectFormat(content);
  const log = new EntryLog();
  const classes = new ClassTable(limits);
  const collector = await ImageCollector.create(join(folder, IMAGES_FILE), limits, log);
  try {
    const context = { limits, classes, log };
    if (format === 'zip') {
      const archive = await ZipArchive.open(content, limits);
      try {
        await collect(zipCandidates(archive, context), collector);
      } finally {
        await archive.close();
      }
    } else {
      await collect(jsonlCandidates(content, context), collector);
    }
    const curated = curate(collector.images, classes.all(), log, limits.maxReportedRejections);
    await collector.sync();
    await writeManifest(folder, {
      classes: curated.classes,
      images: curated.images,
      imageBytes: collector.imageBytes,
    });
    return { bytes, sha256, classes: curated.classes, report: curated.report };
  } finally {
    await collector.close();
  }
}

async function collect(candidates: AsyncGenerator<Candidate>, collector: ImageCollector): Promise<void> {
  await eachConcurrently(candidates, availableParallelism(), (candidate) => collector.add(candidate));
}
