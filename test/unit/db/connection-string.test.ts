import { describe, expect, it } from 'vitest';
import { describeConnection, splitSessionOptions } from '../../../src/db/connection-string.js';

describe('splitSessionOptions', () => {
  it('leaves a connection string without options as it is', () => {
    const connectionString = 'postgresql://u:p%40ss@host:5433/db?sslmode=disable';
    expect(splitSessionOptions(connectionString)).toEqual({ connectionString, options: '' });
  });

  it('takes the options out', () => {
    const given = 'postgresql://u:p%40ss@host:5433/db?options=-c%20work_mem%3D8MB&sslmode=disable';
    expect(splitSessionOptions(given)).toEqual({
      connectionString: 'postgresql://u:p%40ss@host:5433/db?sslmode=disable',
      options: '-c work_mem=8MB',
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
