import { InvalidRequestError } from '../errors.js';
import { type ClassFolders, type Item, readFolders } from './class-folders.js';
import { quoted } from './label-text.js';
import type { ListFormat } from './listed-image.js';
import { compareCodePoints, type EntryLog } from './report.js';
import { splitNamed } from './split-names.js';
import type { ZipEntry } from './zip-archive.js';

/** What the entries of a ZIP mean. */
export interface ZipLayout {
  /** What is said of the classes (`classes.json`). */
  classTexts: ZipEntry | null;
  images: ClassFolders | ImageLists;
}

/** Lists that name the images, in place of folders. */
export interface ImageLists {
  kind: 'lists';
  lists: ZipList[];
  /** By path. */
  files: Map<string, ZipEntry>;
  /** Of the common folder: lists may name images from there or from the top. */
  prefix: string;
}

export interface ZipList {
  entry: ZipEntry;
  format: ListFormat;
  /** Path of its folder, with a slash at the end; empty at the top. */
  folder: string;
  /** Whether images that it gives no split have that of the folder they lie in, as in Hugging Face's image folders. */
  splitByFolder: boolean;
}

const SYSTEM_FILES = new Set(['__macosx', 'thumbs.db', 'desktop.ini', 'icon\r']);
const CLASS_TEXTS = 'classes.json';

/**
 * Finds the classes and images of a ZIP, all of it in one common folder or not: in folders (class-folders.ts), or in what
 * takes their place: a list (`*.jsonl`, `*.csv`) at the top, or a `metadata.jsonl` or `metadata.csv` in each of the
 * folders train/ and validation/. What fits nowhere is logged.
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
  const all = inside.filter(({ entry, path }) => !entry.isDirectory && path.length > 0);
  const classTexts = all.find(isClassTexts);
  const files = all.filter((file) => file !== classTexts);
  const lists = findLists(files);
  const images: ZipLayout['images'] =
    lists.length > 0
      ? {
          kind: 'lists',
          lists: lists.map(toList).sort((a, b) => compareCodePoints(a.folder, b.folder)),
          files: new Map(
            files.filter((file) => !lists.includes(file)).map(({ entry, path }) => [path.join('/'), entry]),
          ),
          prefix: wrapper === null ? '' : `${wrapper}/`,
        }
      : readFolders(
          files,
          inside.filter(({ entry }) => entry.isDirectory),
          log,
        );
  return { classTexts: classTexts?.entry ?? null, images };
}

function findLists(files: Item[]): Item[] {
  const atTop = files.filter(({ path }) => path.length === 1 && formatOf(path[0]) !== null);
  const inSplits = files.filter(({ path }) => {
    const split = splitNamed(path[0]);
    return path.length === 2 && isMetadata(path[1]) && (split === 'train' || split === 'validation');
  });
  const folders = new Set(inSplits.map(({ path }) => path[0]));
  if (atTop.length > 1 || (atTop.length === 1 && inSplits.length > 0) || folders.size < inSplits.length) {
    throw new InvalidRequestError({
      code: 'several_lists',
      param: 'file',
      message:
        'The ZIP has several lists (.jsonl, .csv). Keep one at its top that lists all images, or one metadata.jsonl or ' +
        'metadata.csv in each of the folders train/ and validation/.',
    });
  }
  return atTop.length > 0 ? atTop : inSplits;
}

function toList({ entry, path }: Item): ZipList {
  const name = path[path.length - 1];
  return {
    entry,
    format: formatOf(name)!,
    folder: path.length === 1 ? '' : `${path[0]}/`,
    splitByFolder: isMetadata(name),
  };
}

/** The one folder that holds everything, such as the data set's name; null when there is none. */
function commonFolder(items: Item[]): string | null {
  const first = items[0]?.path[0];
  if (first === undefined || splitNamed(first) !== undefined) return null;
  const holdsAll = items.every(({ entry, path }) => path[0] === first && (entry.isDirectory || path.length > 1));
  // A single class folder holds everything too.
  const isWrapper = items.some(
    ({ entry, path }) => path.length > 2 || (path.length === 2 && (entry.isDirectory || formatOf(path[1]) !== null)),
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

function isClassTexts({ path }: Item): boolean {
  return path.length === 1 && path[0].toLowerCase() === CLASS_TEXTS;
}

function isMetadata(name: string): boolean {
  return /^metadata\.(jsonl|csv)$/i.test(name);
}

function formatOf(name: string): ListFormat | null {
  if (/\.(jsonl|ndjson)$/i.test(name)) return 'jsonl';
  return /\.(csv|tsv)$/i.test(name) ? 'csv' : null;
}
