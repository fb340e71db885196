import type { Split } from './manifest.js';
import type { EntryLog } from './report.js';
import { splitNamed } from './split-names.js';
import type { ZipEntry } from './zip-archive.js';

/** An entry, and its path within the common folder. */
export interface Item {
  entry: ZipEntry;
  path: string[];
}

/** Images in folders that are their classes. */
export interface ClassFolders {
  kind: 'folders';
  images: PlacedImage[];
  classFolders: string[];
}

export interface PlacedImage {
  entry: ZipEntry;
  name: string;
  folder: string;
  split: Split;
}

const IMAGE_NAME = /\.(png|jpe?g|webp|gif|bmp|tiff?|svg|heic|avif)$/i;

/** Finds the classes in folders: `<class>/<image>`, with `train/`, `validation/` or `test/` before it or not. */
export function readFolders(files: Item[], directories: Item[], log: EntryLog): ClassFolders {
  // A folder called "train" may be a class of trains; it is a split only when class folders lie in it.
  const split = (path: string[]) => {
    const named = splitNamed(path[0]);
    return named === 'test' ? undefined : named;
  };
  const isTest = (path: string[]) => splitNamed(path[0]) === 'test';
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
    if (path.length > 1 && isTest(path)) {
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
    log.notes.push(
      `${testFiles === 1 ? 'The file under test/ was' : `The ${testFiles} files under test/ were`} left out: ` +
        'training must not see test images.',
    );
  }
  const classFolders = new Set(images.map(({ folder }) => folder));
  for (const { path } of directories) {
    if (path.length === 0 || isTest(path)) continue;
    const { rest } = place(path);
    if (rest.length === 1) classFolders.add(rest[0]);
  }
  return { kind: 'folders', images, classFolders: [...classFolders] };
}
