import { createReadStream } from 'node:fs';
import { InvalidRequestError } from '../errors.js';
import type { Candidate } from './candidate.js';
import { decodeBase64, isDataUri, isRemoteUrl } from './data-uri.js';
import { tooLarge } from './image-check.js';
import { type ListedImage, readListedImages } from './jsonl.js';
import { type ClassTable, folderLabel, quoted, writtenLabel } from './labels.js';
import type { DatasetLimits } from './limits.js';
import { compareCodePoints, type EntryLog } from './report.js';
import type { ZipArchive, ZipEntry } from './zip-archive.js';
import { readLayout } from './zip-layout.js';
import { safeSegments } from './zip-path.js';

/** A list inside a ZIP is held in memory. */
const MAX_LIST_BYTES = 64 * 1024 * 1024;
const LINE_OVERHEAD = 64 * 1024;

interface Context {
  limits: DatasetLimits;
  classes: ClassTable;
  log: EntryLog;
}

/** The images a ZIP claims to have; its classes go to the table and misplaced entries to the log. */
export async function* zipCandidates(archive: ZipArchive, context: Context): AsyncGenerator<Candidate> {
  const { classes, log, limits } = context;
  const layout = readLayout(archive.entries, log);
  if (layout.kind === 'list') {
    yield* listCandidates(archive, layout, context);
    return;
  }
  for (const folder of layout.classFolders.sort(compareCodePoints)) {
    classes.add(folderLabel(folder), folder, `Folder ${quoted(folder)}`);
  }
  for (const { entry, name, folder, split } of layout.images.sort((a, b) => compareCodePoints(a.name, b.name))) {
    yield { entry: name, name, label: folderLabel(folder), split, load: () => readImage(archive, entry, limits) };
  }
}

/** The images of a JSONL file, all of them embedded. */
export async function* jsonlCandidates(path: string, { classes, limits }: Context): AsyncGenerator<Candidate> {
  const chunks = createReadStream(path, { highWaterMark: 1024 * 1024 });
  for await (const item of readListedImages(chunks, lineLimits(limits))) {
    if (!isDataUri(item.image)) {
      refuseRemote(item);
      throw new InvalidRequestError({
        code: 'image_not_embedded',
        param: 'file',
        message:
          `Line ${item.line} names the image ${quoted(item.image)} instead of having it in itself. Embed it as a data ` +
          'URI (data:image/png;base64,…), or upload a ZIP with this list and the images.',
      });
    }
    yield embedded(item, addLabel(item, classes), limits);
  }
}

async function* listCandidates(
  archive: ZipArchive,
  { list, files, prefix }: { list: ZipEntry; files: Map<string, ZipEntry>; prefix: string },
  { limits, classes, log }: Context,
): AsyncGenerator<Candidate> {
  const listed = new Set<string>();
  const repeated = new Set<string>();
  for await (const item of readListedImages([await readList(archive, list)], lineLimits(limits))) {
    const label = addLabel(item, classes);
    if (isDataUri(item.image)) {
      yield embedded(item, label, limits);
      continue;
    }
    refuseRemote(item);
    const path = safeSegments(item.image).join('/');
    const name = !files.has(path) && path.startsWith(prefix) ? path.slice(prefix.length) : path;
    const file = files.get(name);
    if (!file) {
      log.reject(path, 'image_missing', `Line ${item.line} lists it, but the ZIP has no such entry.`);
      continue;
    }
    listed.add(name);
    const claim = JSON.stringify([name, label, item.split]);
    if (repeated.has(claim)) {
      log.duplicates++;
      continue;
    }
    repeated.add(claim);
    yield { entry: name, name, label, split: item.split, load: () => readImage(archive, file, limits) };
  }
  if (listed.size < files.size) {
    const rest = files.size - listed.size;
    log.ignored += rest;
    log.notes.push(`${rest} files of the ZIP were left out because the list does not name them.`);
  }
}

async function readList(archive: ZipArchive, list: ZipEntry): Promise<Buffer> {
  if (list.size > MAX_LIST_BYTES) {
    throw new InvalidRequestError({
      code: 'list_too_large',
      param: 'file',
      message: `The list in the ZIP has more than ${MAX_LIST_BYTES} bytes. Name the images instead of embedding them.`,
    });
  }
  try {
    return await archive.read(list);
  } catch (cause) {
    throw new InvalidRequestError({
      code: 'invalid_zip',
      param: 'file',
      message: `The list ${quoted(list.segments.join('/'))} in the ZIP cannot be read. Make the ZIP again.`,
      cause,
    });
  }
}

async function readImage(archive: ZipArchive, entry: ZipEntry, limits: DatasetLimits): Promise<Buffer> {
  if (entry.size > limits.maxImageBytes) throw tooLarge(entry.size, limits);
  return archive.read(entry);
}

function embedded(item: ListedImage, label: string, limits: DatasetLimits): Candidate {
  return {
    entry: `line ${item.line}`,
    name: null,
    label,
    split: item.split,
    load: async () => decodeBase64(item.image, limits),
  };
}

function addLabel({ label, line }: ListedImage, classes: ClassTable): string {
  const written = writtenLabel(label);
  classes.add(written, written, `Line ${line}`);
  return written;
}

function refuseRemote({ image, line }: ListedImage): void {
  if (!isRemoteUrl(image)) return;
  throw new InvalidRequestError({
    code: 'image_url_not_supported',
    param: 'file',
    message: `Line ${line}: images are not fetched from URLs. Embed the image as a data URI, or put it into a ZIP.`,
  });
}

function lineLimits(limits: DatasetLimits): { maxLines: number; maxLineBytes: number } {
  return { maxLines: limits.maxEntries, maxLineBytes: Math.ceil((limits.maxImageBytes * 4) / 3) + LINE_OVERHEAD };
}
