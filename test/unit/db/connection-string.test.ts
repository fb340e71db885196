import { describe, expect, it } from 'vitest';
import { describeConnection, openSession, withSchema } from '../../../src/db/connection-string.js';

const RELIED_ON = '-c TimeZone=UTC -c default_transaction_isolation=read\\ committed';

describe('openSession', () => {
  it('leaves a connection string as it is that says nothing of sessions', () => {
    const connectionString = 'postgresql://u:p%40ss@host:5433/db?sslmode=disable';
    expect(openSession(connectionString)).toEqual({ connectionString, options: RELIED_ON });
  });

  it('takes options out, and puts what we rely on behind them', () => {
    const given = 'postgresql://u:p%40ss@host:5433/db?options=-c%20work_mem%3D8MB&sslmode=disable';
    expect(openSession(given)).toEqual({
      connectionString: 'postgresql://u:p%40ss@host:5433/db?sslmode=disable',
      options: `-c work_mem=8MB ${RELIED_ON}`,
    });
  });

  it('searches for tables in the schema that is named', () => {
    const connectionString = 'postgresql://u:p%40ss@host/db?sslmode=disable';
    const named = withSchema(connectionString, 'craft');
    expect(named).toContain('schema=craft');
    expect(openSession(named)).toEqual({
      connectionString,
      options: `-c search_path="craft" ${RELIED_ON}`,
      schema: 'craft',
    });
  });
});

describe('describeConnection', () => {
  it.each([
    ['postgresql://user:secret@db.example:5433/craft?password=secret', 'db.example:5433/craft'],
    ['redis://:secret@cache', 'cache'],
    ['postgresql://user:se cret@[bad', 'the given address'],
  ])('shows no credentials of %s', (connectionString, shown) => {
    expect(describeConnection(connectionString)).toBe(shown);
  });
});
