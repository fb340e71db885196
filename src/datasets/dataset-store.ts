import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type { Database, Prisma } from '../db/client.js';
import type { File as FileRow } from '../db/generated/client.js';
import { InvalidRequestError, NotFoundError } from '../errors.js';
import { newId } from '../ids.js';
import { newerThan, olderThan } from '../paging.js';
import type { ClassTexts } from './class-texts.js';
import { Dataset } from './dataset.js';
import { type DatasetFormat, detectFormat, MEDIA_TYPES } from './detect-format.js';
import type { FetchImage } from './image-fetcher.js';
import { type Ingested, ingest } from './ingest.js';
import type { DatasetLimits } from './limits.js';
import { CONTENT_FILE, DatasetCorruptError } from './manifest.js';
import { type DatasetReport, printable } from './report.js';
import { UploadFolders } from './upload-folders.js';

export const FILE_PURPOSE = 'fine-tune';

/** An uploaded data set that passed all checks. */
export interface FileRecord {
  id: string;
  filename: string;
  /** Size of the upload. */
  bytes: number;
  /** Of the upload. */
  sha256: string;
  purpose: string;
  /** Display names in label order. */
  classes: string[];
  /** Of each class; null where it has none. */
  descriptions: (string | null)[];
  report: DatasetReport;
  createdAt: Date;
}

export interface FileContent {
  stream: Readable;
  bytes: number;
  filename: string;
  mediaType: string;
}

/** Uploaded data sets: one row in Postgres and one folder on disk each. */
export class DatasetStore {
  private readonly database: Database;
  private readonly limits: DatasetLimits;
  private readonly fetchImage: FetchImage | undefined;
  private readonly folders: UploadFolders;

  /** @param options.fetchImage gets the images that lists name by URL; without it such lists are refused */
  constructor(options: { database: Database; directory: string; limits: DatasetLimits; fetchImage?: FetchImage }) {
    this.database = options.database;
    this.limits = options.limits;
    this.fetchImage = options.fetchImage;
    this.folders = new UploadFolders(options.directory);
  }

  /**
   * Stores and checks an upload. When it is refused or cut off, nothing of it stays. The stream is consumed, or
   * destroyed on failure.
   * @param input.classTexts names and descriptions of classes; asked for once the stream has been read
   * @throws InvalidRequestError with the reason, or PayloadTooLargeError
   */
  async create(input: {
    stream: Readable;
    filename: string;
    purpose: string;
    classTexts?: () => Promise<ClassTexts | null>;
  }): Promise<FileRecord> {
    if (input.purpose !== FILE_PURPOSE) {
      input.stream.destroy();
      throw new InvalidRequestError({
        code: 'invalid_purpose',
        param: 'purpose',
        message: `purpose must be "${FILE_PURPOSE}", not "${printable(input.purpose, 50)}".`,
      });
    }
    const id = newId('file-');
    const incoming = await this.folders.createIncoming(id);
    try {
      const ingested = await ingest(input.stream, incoming, {
        limits: this.limits,
        fetchImage: this.fetchImage,
        classTexts: input.classTexts,
      });
      await this.folders.publish(incoming, id);
      const row = await this.insert(id, input, ingested);
      await this.folders.commit(id);
      return toRecord(row);
    } catch (error) {
      await this.folders.discardIncoming(incoming);
      throw error;
    }
  }

  /**
   * Newest first, or oldest first with `order: 'asc'`.
   * @param after id of the last file of the page before
   */
  async list(page: { limit: number; after?: string; order?: 'asc' | 'desc' }): Promise<{
    data: FileRecord[];
    hasMore: boolean;
  }> {
    const order = page.order ?? 'desc';
    const rows = await this.database.file.findMany({
      where: { deletedAt: null, ...(page.after === undefined ? {} : await this.beyond(page.after, order)) },
      orderBy: [{ createdAt: order }, { id: order }],
      take: page.limit + 1,
    });
    return { data: rows.slice(0, page.limit).map(toRecord), hasMore: rows.length > page.limit };
  }

  /**
   * @param param the request field that names the file, for the error
   * @throws NotFoundError
   */
  async get(id: string, param: string | null = null): Promise<FileRecord> {
    const row = await this.database.file.findFirst({ where: { id, deletedAt: null } });
    if (!row) throw fileNotFound(id, param);
    return toRecord(row);
  }

  /** Whoever has the data set open keeps it until it closes it. @throws NotFoundError */
  async delete(id: string): Promise<void> {
    const { count } = await this.database.file.updateMany({
      where: { id, deletedAt: null },
      data: { deletedAt: new Date() },
    });
    if (count === 0) throw fileNotFound(id, null);
    await this.folders.remove(id);
  }

  /** The upload as it came. @throws NotFoundError */
  async openContent(id: string): Promise<FileContent> {
    const { filename, bytes } = await this.get(id);
    const path = join(this.folders.of(id), CONTENT_FILE);
    let format: DatasetFormat;
    try {
      format = await detectFormat(path);
    } catch (cause) {
      throw new DatasetCorruptError('the uploaded file is missing or damaged', cause);
    }
    return { stream: createReadStream(path), bytes, filename, mediaType: MEDIA_TYPES[format] };
  }

  /**
   * Opens the data set for reading; the caller closes it.
   * @param param the request field that names the file, for the error
   * @throws NotFoundError
   */
  async open(id: string, param: string | null = null): Promise<Dataset> {
    await this.get(id, param);
    return Dataset.open(id, this.folders.of(id));
  }

  /** Removes what interrupted uploads and deletions left behind. Call it at start; other processes may be at work. */
  async sweep(): Promise<void> {
    const isLive = async (ids: string[]) => {
      const rows = await this.database.file.findMany({
        where: { id: { in: ids } },
        select: { id: true, deletedAt: true },
      });
      return new Map(rows.map((row) => [row.id, row.deletedAt === null]));
    };
    await this.folders.sweep(isLive);
  }

  private async insert(
    id: string,
    { filename, purpose }: { filename: string; purpose: string },
    { bytes, sha256, classes, report }: Ingested,
  ): Promise<FileRow> {
    try {
      return await this.database.file.create({
        data: {
          id,
          filename: safeFilename(filename),
          purpose,
          bytes: BigInt(bytes),
          sha256,
          classes,
          report: report as unknown as Prisma.InputJsonObject,
        },
      });
    } catch (error) {
      // The row may be there though the answer got lost. If Postgres cannot tell now, the next sweep settles it.
      const settled = await this.database.file.deleteMany({ where: { id } }).catch(() => null);
      if (settled) await this.folders.remove(id);
      throw error;
    }
  }

  private async beyond(after: string, order: 'asc' | 'desc'): Promise<Prisma.FileWhereInput> {
    const last = await this.database.file.findUnique({ where: { id: after }, select: { createdAt: true } });
    if (!last) {
      throw new InvalidRequestError({
        code: 'invalid_cursor',
        param: 'after',
        message: 'after must be the id of a file that a list has shown.',
      });
    }
    const cursor = { createdAt: last.createdAt, id: after };
    return order === 'asc' ? newerThan(cursor) : olderThan(cursor);
  }
}

function toRecord(row: FileRow): FileRecord {
  const report = row.report as unknown as DatasetReport;
  return {
    id: row.id,
    filename: row.filename,
    bytes: Number(row.bytes),
    sha256: row.sha256,
    purpose: row.purpose,
    classes: row.classes as string[],
    descriptions: report.classes.map(({ description }) => description ?? null),
    report,
    createdAt: row.createdAt,
  };
}

/** The last part of what the client called its file, fit for a header and for Postgres. */
function safeFilename(filename: string): string {
  const base = filename.split(/[\\/]/).at(-1) ?? '';
  const clean = base
    .normalize('NFC')
    .replace(/[\p{Cc}\p{Cs}\u2028\u2029]/gu, '')
    .trim();
  if (clean === '' || clean === '.' || clean === '..') return 'upload';
  return clean.slice(0, 255).replace(/\p{Cs}$/u, '');
}

function fileNotFound(id: string, param: string | null): NotFoundError {
  return new NotFoundError({
    code: 'file_not_found',
    param,
    message: `There is no file ${printable(id, 60)}. It may have been deleted; GET /v1/files lists those that exist.`,
  });
}
