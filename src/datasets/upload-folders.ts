import { randomBytes } from 'node:crypto';
import { mkdir, open, readdir, rename, rm, stat, unlink, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';

const INCOMING = 'incoming';
/** Lies in a published folder until its row is in Postgres, so that no sweep ever removes a folder on a guess. */
const UNCOMMITTED = 'uncommitted';
/** After this time without a write, an upload of another process is taken for abandoned. */
const ABANDONED_MS = 15 * 60_000;

const HOST = hostname().replace(/[^\w.-]/g, '_') || 'host';
const INSTANCE = randomBytes(6).toString('hex');

/**
 * The folders of uploads. An upload grows under `incoming/`, in a folder whose name tells which process works on it, and
 * moves to `<id>/` in one step when it is complete.
 */
export class UploadFolders {
  private readonly incoming: string;

  constructor(private readonly directory: string) {
    this.incoming = join(directory, INCOMING);
  }

  /** The folder of a published upload. */
  of(id: string): string {
    return join(this.directory, id);
  }

  async createIncoming(id: string): Promise<string> {
    const folder = join(this.incoming, [id, HOST, process.pid, INSTANCE].join('~'));
    await mkdir(folder, { recursive: true });
    return folder;
  }

  /** Moves a complete upload to its place, durably. It is not committed yet. */
  async publish(folder: string, id: string): Promise<void> {
    await writeFile(join(folder, UNCOMMITTED), '');
    await syncDirectory(folder);
    await rename(folder, this.of(id));
    await syncDirectory(this.directory);
  }

  /** Notes that the row is there. A failure is left to the next sweep: the upload is safe already. */
  async commit(id: string): Promise<void> {
    await unlink(join(this.of(id), UNCOMMITTED)).catch(() => {});
  }

  async discardIncoming(folder: string): Promise<void> {
    await rm(folder, { recursive: true, force: true });
  }

  async remove(id: string): Promise<void> {
    await rm(this.of(id), { recursive: true, force: true });
  }

  /**
   * Removes abandoned uploads and the folders of deleted files.
   * @param isLive for each id with a row: whether it is not deleted
   */
  async sweep(isLive: (ids: string[]) => Promise<Map<string, boolean>>): Promise<void> {
    for (const name of await list(this.incoming)) {
      const folder = join(this.incoming, name);
      if (await isAbandoned(name, folder)) await rm(folder, { recursive: true, force: true });
    }
    const ids = (await list(this.directory)).filter((name) => name.startsWith('file-'));
    for (let from = 0; from < ids.length; from += 1000) {
      const batch = ids.slice(from, from + 1000);
      const live = await isLive(batch);
      for (const id of batch) await this.settle(id, live.get(id));
    }
  }

  private async settle(id: string, live: boolean | undefined): Promise<void> {
    if (live === false) return this.remove(id);
    const marker = join(this.of(id), UNCOMMITTED);
    const age = await ageOf(marker);
    if (age === null) return;
    if (live === true) await rm(marker, { force: true });
    else if (age > ABANDONED_MS) await this.remove(id);
  }
}

async function isAbandoned(name: string, folder: string): Promise<boolean> {
  const [, host, pid, instance] = name.split('~');
  if (instance === INSTANCE) return false;
  if (host === HOST && !isOtherRunningProcess(Number(pid))) return true;
  const ages = await Promise.all([folder, ...(await list(folder)).map((file) => join(folder, file))].map(ageOf));
  return Math.min(...ages.map((age) => age ?? Number.POSITIVE_INFINITY)) > ABANDONED_MS;
}

function isOtherRunningProcess(pid: number): boolean {
  if (!Number.isSafeInteger(pid) || pid <= 0 || pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Milliseconds since the last change; null if it does not exist. */
async function ageOf(path: string): Promise<number | null> {
  try {
    return Date.now() - (await stat(path)).mtimeMs;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

async function list(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ENOTDIR') return [];
    throw error;
  }
}

/** Makes names in a directory survive a power failure. Some systems cannot open directories; they do without. */
async function syncDirectory(directory: string): Promise<void> {
  try {
    const handle = await open(directory, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? '';
    if (!['EISDIR', 'EPERM', 'EINVAL', 'EACCES', 'ENOTSUP'].includes(code)) throw error;
  }
}
