import { InvalidRequestError } from '../errors.js';
import type { Split } from './dataset.js';
import { quoted } from './labels.js';
import type { EntryLog } from './report.js';
import type { ZipEntry } from './zip-archive.js';

/** What a ZIP's folders mean. */
export type ZipLayout =
  | { kind: 'folders'; images: PlacedImage[]; classFolders: string[] }
  | { kind: 'list'; list: ZipEntry; files: Map<string, ZipEntry>; prefix: string };

export interface PlacedImage {
  entry: ZipEntry;
  name: string;
  folder: string;
  split: Split;
}

interface Item {
  entry: ZipEntry;
  path: string[];
}

const SPLITS = new Map<string, Split>([
  ['train', 'train'],
  ['training', 'train'],
  ['validation', 'validation'],
  ['valid', 'validation'],
  ['val', 'validation'],
]);
const TEST = new Set(['test', 'testing']);
const SYSTEM_FILES = new Set(['__macosx', 'thumbs.db', 'desktop.ini', 'icon\r']);
const IMAGE_NAME = /\.(png|jpe?g|webp|gif|bmp|tiff?|svg|heic|avif)$/i;

/**
 * Finds the classes in the folders of a ZIP: `<class>/<image>`, with `train/` or `validation/` before it or not, all of
 * it in one common folder or not. A list (`*.jsonl`) at the top takes the folders' place. What fits nowhere is logged.
 * @throws InvalidRequestError when a name occurs twice or there are several lists
 */
export function readLayout(entries: ZipEntry[], log: EntryLog): ZipLayout {
  const items: Item[] = [];
  for (const entry of entries) {
    if (entry.segments.some(isSystemName)) {
      if (!entry.isDirectory) log.ignored++;
    } else if (entry.segments.length > 0) {
      items.push({ entry, path: entry.segments });
    }
  }
  refuseRepeatedNames(items);
  const wrapper = commonFolder(items);
  const inside = wrapper === null ? items : items.map(({ entry, path }) => ({ entry, path: path.slice(1) }));
  const files = inside.filter(({ entry, path }) => !entry.isDirectory && path.length > 0);
  const lists = files.filter(({ path }) => path.length === 1 && isList(path[0]));
  if (lists.length > 1) {
    throw new InvalidRequestError({
      code: 'several_lists',
      param: 'file',
      message: 'The ZIP has several .jsonl files at its top. Keep one that lists all images.',
    });
  }
  if (lists.length === 1) {
    return {
      kind: 'list',
      list: lists[0].entry,
      files: new Map(files.filter((file) => file !== lists[0]).map(({ entry, path }) => [path.join('/'), entry])),
      prefix: wrapper === null ? '' : `${wrapper}/`,
    };
  }
  return readFolders(
    files,
    inside.filter(({ entry }) => entry.isDirectory),
    log,
  );
}

function readFolders(files: Item[], directories: Item[], log: EntryLog): ZipLayout {
  // A folder called "train" may be a class of trains; it is a split only when class folders lie in it.
  const split = (path: string[]) => SPLITS.get(path[0].toLowerCase());
  const hasSplits = files.some(({ path }) => path.length >= 3 && split(path) !== undefined);
  const place = (path: string[]): { split: Split; rest: string[] } => {
    const named = hasSplits ? split(path) : undefined;
    return named === undefined ? { split: 'train', rest: path } : { split: named, rest: path.slice(1) };
  };

  const images: PlacedImage[] = [];
  let testFiles = 0;
  for (const { entry, path } of files) {
    const name = path.join('/');
    const { split, rest } = place(path);
    if (path.length > 1 && TEST.has(path[0].toLowerCase())) {
      testFiles++;
    } else if (rest.length === 2) {
      images.push({ entry, name, folder: rest[0], split });
    } else if (rest.length > 2) {
      log.reject(name, 'nested_too_deep', 'It lies in a folder within a class folder. Use <class>/<image>.');
    } else if (IMAGE_NAME.test(name)) {
      log.reject(name, 'no_class_folder', 'It lies in no class folder. Use <class>/<image>.');
    } else {
      log.ignored++;
    }
  }
  if (testFiles > 0) {
    log.ignored += testFiles;
    log.notes.push(`The ${testFiles} files under test/ were left out: training must not see test images.`);
  }
  const classFolders = new Set(images.map(({ folder }) => folder));
  for (const { path } of directories) {
    if (path.length === 0 || TEST.has(path[0].toLowerCase())) continue;
    const { rest } = place(path);
    if (rest.length === 1) classFolders.add(rest[0]);
  }
  return { kind: 'folders', images, classFolders: [...classFolders] };
}

/** The one folder that holds everything, such as the data set's name; null when there is none. */
function commonFolder(items: Item[]): string | null {
  const first = items[0]?.path[0];
  if (first === undefined || SPLITS.has(first.toLowerCase()) || TEST.has(first.toLowerCase())) return null;
  const holdsAll = items.every(({ entry, path }) => path[0] === first && (entry.isDirectory || path.length > 1));
  // A single class folder holds everything too.
  const isWrapper = items.some(
    ({ entry, path }) => path.length > 2 || (path.length === 2 && (entry.isDirectory || isList(path[1]))),
  );
  return holdsAll && isWrapper ? first : null;
}

function refuseRepeatedNames(items: Item[]): void {
  const seen = new Set<string>();
  for (const { entry, path } of items) {
    if (entry.isDirectory) continue;
    const name = path.join('/');
    if (seen.has(name)) {
      throw new InvalidRequestError({
        code: 'duplicate_entry',
        param: 'file',
        message: `The ZIP has two entries called ${quoted(name)}. Give each image a name of its own.`,
      });
    }
    seen.add(name);
  }
}

function isSystemName(segment: string): boolean {
  return segment.startsWith('.') || SYSTEM_FILES.has(segment.toLowerCase());
}

function isList(name: string): boolean {
  return /\.(jsonl|ndjson)$/i.test(name);
}
