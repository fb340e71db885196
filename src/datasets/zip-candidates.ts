import { isUtf8 } from 'node:buffer';
import { InvalidRequestError } from '../errors.js';
import type { Candidate } from './candidate.js';
import type { ClassFolders } from './class-folders.js';
import { ClassTexts } from './class-texts.js';
import { tooLarge } from './image-check.js';
import { folderLabel, quoted } from './label-text.js';
import type { DatasetLimits } from './limits.js';
import { readListedImages } from './list-reader.js';
import { listLimits } from './list-upload.js';
import { type CandidateContext, ListedCandidates, type ListPlace } from './listed-candidates.js';
import type { ListedImage } from './listed-image.js';
import { compareCodePoints, printable } from './report.js';
import { splitNamed } from './split-names.js';
import type { ZipArchive, ZipEntry } from './zip-archive.js';
import { readDocument } from './zip-document.js';
import type { ImageLists, ZipLayout, ZipList } from './zip-layout.js';
import { safeSegments } from './zip-path.js';

const MIB = 1024 * 1024;

/** What the ZIP says of its classes; null when it says nothing. @throws InvalidRequestError */
export async function readClassTexts(archive: ZipArchive, entry: ZipEntry | null): Promise<ClassTexts | null> {
  if (!entry) return null;
  const bytes = await readDocument(archive, entry, { maxBytes: MIB, remedy: 'Name the classes only.' });
  const text = isUtf8(bytes) ? bytes.toString('utf8') : '';
  return ClassTexts.parse(text.replace(/^\ufeff/, ''), 'file');
}

/** The images a ZIP claims to have; its classes go to the table and misplaced entries to the log. */
export function zipCandidates(
  archive: ZipArchive,
  { images }: ZipLayout,
  context: CandidateContext,
): AsyncGenerator<Candidate> {
  return images.kind === 'folders'
    ? folderCandidates(archive, images, context)
    : listCandidates(archive, images, context);
}

async function* folderCandidates(
  archive: ZipArchive,
  { images, classFolders }: ClassFolders,
  { classes, limits }: CandidateContext,
): AsyncGenerator<Candidate> {
  const labels = new Map<string, string>();
  for (const folder of classFolders.sort(compareCodePoints)) {
    labels.set(folder, classes.add(folderLabel(folder), folder, `Folder ${quoted(folder)}`));
  }
  for (const { entry, name, folder, split } of images.sort((a, b) => compareCodePoints(a.name, b.name))) {
    const load = () => readImage(archive, entry, limits);
    yield { entry: name, name, fetchKey: null, label: labels.get(folder)!, split, load };
  }
}

async function* listCandidates(
  archive: ZipArchive,
  images: ImageLists,
  context: CandidateContext,
): AsyncGenerator<Candidate> {
  const { limits, log } = context;
  const listed = new ListedCandidates(context);
  const named = new Set<string>();
  for (const list of images.lists) {
    // A list is held in memory.
    const bytes = await readDocument(archive, list.entry, {
      maxBytes: 64 * MIB,
      remedy: 'Name the images instead of embedding them.',
    });
    const suffix = images.lists.length === 1 ? '' : ` of ${printable(list.entry.segments.join('/'), 80)}`;
    const items = readListedImages(list.format, [bytes], listLimits(limits));
    yield* listed.read(namingList(items, suffix), placeOf(list, suffix, { archive, images, limits, named }));
  }
  listed.finish();
  const rest = images.files.size - named.size;
  if (rest > 0) {
    log.ignored += rest;
    log.notes.push(
      rest === 1
        ? '1 file of the ZIP was left out because no list names it.'
        : `${rest} files of the ZIP were left out because no list names them.`,
    );
  }
}

function placeOf(list: ZipList, suffix: string, { archive, images, limits, named }: ZipFiles): ListPlace {
  const { files, prefix } = images;
  return {
    suffix,
    splitOf(name) {
      if (!list.splitByFolder) return 'train';
      return splitNamed((list.folder || (name ?? '')).split('/')[0]) ?? 'train';
    },
    find({ image }) {
      const path = safeSegments(image).join('/');
      const places = [list.folder + path, path, ...(path.startsWith(prefix) ? [path.slice(prefix.length)] : [])];
      const name = places.find((place) => files.has(place));
      if (name === undefined) return { name: places[0], load: null };
      named.add(name);
      return { name, load: () => readImage(archive, files.get(name)!, limits) };
    },
  };
}

interface ZipFiles {
  archive: ZipArchive;
  images: ImageLists;
  limits: DatasetLimits;
  /** Gathers the files that a list names. */
  named: Set<string>;
}

/** Where there are several lists, says which one an error is about. */
async function* namingList(items: AsyncGenerator<ListedImage>, suffix: string): AsyncGenerator<ListedImage> {
  try {
    yield* items;
  } catch (error) {
    if (suffix === '' || !(error instanceof InvalidRequestError)) throw error;
    const { code, param, message } = error;
    throw new InvalidRequestError({ code, param, message: `In the list${suffix}: ${message}`, cause: error });
  }
}

async function readImage(archive: ZipArchive, entry: ZipEntry, limits: DatasetLimits): Promise<Buffer> {
  if (entry.size > limits.maxImageBytes) throw tooLarge(entry.size, limits);
  return archive.read(entry);
}
