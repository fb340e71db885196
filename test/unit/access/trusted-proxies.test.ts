import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TrustedProxies } from '../../../src/access/trusted-proxies.js';

describe('TrustedProxies', () => {
  it.each([
    ['', '127.0.0.1', false],
    ['127.0.0.1', '127.0.0.1', true],
    ['127.0.0.1', '::ffff:127.0.0.1', true],
    ['127.0.0.1', '127.0.0.2', false],
    ['::ffff:10.1.2.3', '10.1.2.3', true],
    ['::ffff:10.0.0.0/104', '::ffff:10.9.8.7', true],
    ['::ffff:10.0.0.0/104', '11.0.0.1', false],
    ['10.0.0.0/8, fd00::/8', '10.9.8.7', true],
    ['10.0.0.0/8, fd00::/8', 'fd00::1', true],
    ['10.0.0.0/8, fd00::/8', '11.0.0.1', false],
    ['10.0.0.0/8, fd00::/8', 'fe80::1', false],
  ])('"%s" and %s: %s', (list, address, trusted) => {
    expect(TrustedProxies.parse(list).trusts(address)).toBe(trusted);
  });

  it('trusts nobody whose address is not known', () => {
    const proxies = TrustedProxies.parse('10.0.0.0/8');
    expect(proxies.trusts(undefined)).toBe(false);
    fc.assert(fc.property(fc.string(), (text) => !proxies.trusts(`x${text}`)));
  });

  it.each(['nginx', '10.0.0', '10.0.0.0/33', '10.0.0.1:80', '10.0.0.1 10.0.0.2', 'fd00::/129'])(
    'refuses %s, saying what is possible',
    (entry) => {
      expect(() => TrustedProxies.parse(`127.0.0.1,${entry}`)).toThrow(`"${entry}" is no address or range`);
    },
  );

  it.each(['0.0.0.0/0', '::/0', '::ffff:0.0.0.0/96'])(
    'refuses %s, because limits by address could be evaded',
    (everybody) => {
      expect(() => TrustedProxies.parse(everybody)).toThrow(/is everybody/);
    },
  );
});
