import { randomBytes } from 'node:crypto';
import { createServer } from 'node:net';
import pino from 'pino';
import { describe, expect, it, onTestFinished } from 'vitest';
import { createPrismaClient } from '../../src/db/client.js';
import { openDatabase } from '../../src/db/open-database.js';
import { LedgerConnection } from '../../src/ledger/connection.js';
import { emptyDatabase, query } from '../helpers/postgres.js';

const log = pino({ level: 'silent' });

function open(databaseUrl: string) {
  return openDatabase({ databaseUrl, dataDirectory: '/nonexistent', log });
}

describe('openDatabase with a DATABASE_URL', async () => {
  const connectionString = await emptyDatabase();

  it('brings the tables up to date and starts nothing of its own', async () => {
    const database = await open(connectionString);
    expect(database).toMatchObject({ connectionString, embedded: false });
    expect(await query(connectionString, 'SELECT * FROM jobs')).toEqual([]);
    await database.close();
  });

  it.each([
    [
      'a wrong password',
      (url: URL) => {
        url.password = 'hush-hush';
      },
      /refuses the user name or password/,
    ],
    [
      'an unknown database',
      (url: URL) => {
        url.pathname = 'nowhere';
      },
      /no database of that name/,
    ],
    [
      'a port where nothing listens',
      (url: URL) => {
        url.port = '1';
      },
      /nothing listens there/,
    ],
  ])('explains %s without showing credentials', async (_, change, message) => {
    const url = new URL(connectionString);
    change(url);
    const error: Error = await open(url.href).then(
      () => expect.fail('it was opened'),
      (reason) => reason,
    );
    expect(error.message).toMatch(message);
    expect(error.message).toMatch(/DATABASE_URL/);
    expect(error.message).not.toContain(url.password);
  });

  it('works in a schema of its own: by name, or where the role finds one first', async () => {
    const own = await emptyDatabase();
    const role = `r_${randomBytes(6).toString('hex')}`;
    await query(own, `CREATE ROLE ${role} LOGIN PASSWORD 'pw'; CREATE SCHEMA ${role} AUTHORIZATION ${role}`);
    onTestFinished(async () => void (await query(own, `DROP OWNED BY ${role}; DROP ROLE ${role}`)));
    const url = new URL(own);
    [url.username, url.password] = [role, 'pw'];
    for (const given of [url.href, `${url.href}?schema=${role}`]) {
      const database = await open(given);
      expect(database.connectionString).toBe(`${url.href}?schema=${role}`);
      const prisma = createPrismaClient({ connectionString: database.connectionString, poolSize: 1 });
      expect(await prisma.job.findMany()).toEqual([]);
      const [{ path }] = await prisma.$queryRaw<{ path: string }[]>`SELECT current_setting('search_path') AS path`;
      expect(path).toBe(`"${role}"`);
      await prisma.$disconnect();
      await database.close();
    }
    await expect(open(`${url.href}?schema=a%20b`)).rejects.toThrow(/a schema named a b is not supported/);
  });

  it('reads what others have committed whatever the database says, and times in UTC', async () => {
    const own = await emptyDatabase();
    const name = new URL(own).pathname.slice(1);
    await query(own, `ALTER DATABASE ${name} SET default_transaction_isolation = 'serializable'`);
    await query(own, `ALTER DATABASE ${name} SET TimeZone = 'Asia/Kolkata'`);
    const prisma = createPrismaClient({ connectionString: own, poolSize: 1 });
    const [session] = await prisma.$queryRaw<object[]>`
      SELECT current_setting('transaction_isolation') AS isolation, current_setting('TimeZone') AS zone`;
    expect(session).toEqual({ isolation: 'read committed', zone: 'UTC' });
    await prisma.$disconnect();
    const ledger = new LedgerConnection(own);
    const [settings] = await ledger.query({ text: "SELECT current_setting('transaction_isolation') AS isolation" });
    expect(settings).toEqual({ isolation: 'read committed' });
    await ledger.close();
  });

  it('explains a pooler that takes no settings of sessions', async () => {
    const fields = ['SFATAL', 'C08P01', 'Munsupported startup parameter: options', ''].join('\0');
    const body = Buffer.from(`${fields}\0`);
    const length = Buffer.alloc(4);
    length.writeInt32BE(body.length + 4);
    const pooler = createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => socket.end(Buffer.concat([Buffer.from('E'), length, body])));
    });
    await new Promise<void>((resolve) => pooler.listen(0, '127.0.0.1', resolve));
    const { port } = pooler.address() as { port: number };
    await expect(open(`postgresql://u:p@127.0.0.1:${port}/d`)).rejects.toThrow(/pooler in between.*DATABASE_URL/);
    pooler.close();
  });

  it('explains a server that is no Postgres', async () => {
    const server = createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    await expect(open(`postgresql://u:p@127.0.0.1:${port}/d`)).rejects.toThrow(/cannot be used/);
    server.close();
  });
});
