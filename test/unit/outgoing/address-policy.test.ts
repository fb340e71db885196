import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AddressNotAllowedError } from '../../../src/outgoing/address-not-allowed-error.js';
import { AddressPolicy, AddressPolicyError } from '../../../src/outgoing/address-policy.js';

const allows = (policy: AddressPolicy, address: string, port = 443, host = 'box.example') =>
  policy.refusal(host, port, address) === null;

const anyIpv4 = fc.tuple(...Array.from({ length: 4 }, () => fc.integer({ min: 0, max: 255 })));
const hexPair = (high: number, low: number) => ((high << 8) | low).toString(16);

describe('an AddressPolicy that allows nothing more', () => {
  const policy = AddressPolicy.parse('');

  it.each(['1.1.1.1', '8.8.8.8', '172.15.255.255', '172.32.0.1', '100.63.255.255', '2606:4700::1111', '2a00::1'])(
    'lets %s be called',
    (address) => {
      expect(allows(policy, address)).toBe(true);
    },
  );

  it.each([
    ['127.0.0.1', 'loopback'],
    ['127.255.255.254', 'loopback'],
    ['10.0.0.1', 'private'],
    ['172.16.0.1', 'private'],
    ['172.31.255.255', 'private'],
    ['192.168.1.1', 'private'],
    ['100.64.0.1', 'private'],
    ['100.127.255.255', 'private'],
    ['169.254.169.254', 'link-local'],
    ['0.0.0.0', 'unspecified'],
    ['0.1.2.3', 'unspecified'],
    ['224.0.0.1', 'multicast'],
    ['239.255.255.255', 'multicast'],
    ['240.0.0.1', 'reserved'],
    ['255.255.255.255', 'reserved'],
    ['192.0.0.1', 'reserved'],
    ['192.0.2.1', 'reserved'],
    ['198.18.0.1', 'reserved'],
    ['198.51.100.1', 'reserved'],
    ['203.0.113.1', 'reserved'],
    ['::', 'unspecified'],
    ['::1', 'loopback'],
    ['::7f00:1', 'reserved'],
    ['fc00::1', 'private'],
    ['fdff::1', 'private'],
    ['fe80::1', 'link-local'],
    ['fe80::1%eth0', 'link-local'],
    ['fec0::1', 'reserved'],
    ['ff02::1', 'multicast'],
    ['2001:db8::1', 'reserved'],
    ['100::1', 'reserved'],
    ['64:ff9b:1::a00:1', 'reserved'],
    ['::ffff:0:a00:1', 'reserved'],
    ['4000::1', 'reserved'],
  ])('refuses %s as %s', (address, category) => {
    expect(() => policy.check('box.example', 443, address)).toThrow(AddressNotAllowedError);
    expect(() => policy.check('box.example', 443, address)).toThrow(` ${category} address`);
  });

  it('says what to do', () => {
    expect(() => policy.check('box.example', 443, '10.1.2.3')).toThrow(
      'box.example resolves to 10.1.2.3, a private address. The operator of this service can allow it with CRAFT_ALLOWED_NETWORKS.',
    );
    expect(() => policy.check('[::1]', 443, '::1')).toThrow('::1 is a loopback address. The operator');
    expect(() => policy.check('box.example', 443, '64:ff9b::a00:1')).toThrow(
      'resolves to 64:ff9b::a00:1, a private address (it leads to 10.0.0.1)',
    );
  });

  it('judges addresses that embed an IPv4 address by that one', () => {
    fc.assert(
      fc.property(anyIpv4, ([a, b, c, d]) => {
        const direct = allows(policy, `${a}.${b}.${c}.${d}`);
        const hex = `${hexPair(a, b)}:${hexPair(c, d)}`;
        const obfuscated = `${hexPair(a ^ 255, b ^ 255)}:${hexPair(c ^ 255, d ^ 255)}`;
        expect(allows(policy, `::ffff:${hex}`)).toBe(direct);
        expect(allows(policy, `64:ff9b::${hex}`)).toBe(direct);
        expect(allows(policy, `2002:${hex}::1`)).toBe(direct);
        expect(allows(policy, `2001:0:808:808:0:0:${obfuscated}`)).toBe(direct);
        expect(allows(policy, `2001:0:${hex}:0:0:f7f7:f7f7`)).toBe(direct);
      }),
    );
  });
});

describe('the list of allowed networks', () => {
  it.each([
    ['10.1.2.3', '10.1.2.3', '10.1.2.4'],
    ['10.0.0.0/8', '10.255.0.1', '192.168.0.1'],
    ['10.0.0.0/8', '::ffff:10.0.0.1', '::ffff:127.0.0.1'],
    ['10.0.0.0/8', '64:ff9b::10.0.0.1', '64:ff9b::127.0.0.1'],
    ['fd00::/8', 'fd12::1', 'fc00::1'],
    ['[fd00::1]', 'fd00::1', 'fd00::2'],
    ['::1', '::1', '127.0.0.1'],
    ['loopback', '127.0.0.2', '10.0.0.1'],
    ['Loopback', '::1', 'fe80::1'],
    ['private', '192.168.0.1', '127.0.0.1'],
    ['private', '100.64.0.1', '169.254.169.254'],
    ['private', 'fd00::1', '::1'],
    ['link-local', 'fe80::1', '10.0.0.1'],
    ['loopback, link-local', '169.254.1.1', '10.0.0.1'],
  ])('with %s allows %s and not %s', (list, allowed, refused) => {
    const policy = AddressPolicy.parse(list);
    expect(allows(policy, allowed)).toBe(true);
    expect(allows(policy, refused)).toBe(false);
    expect(allows(policy, '8.8.8.8')).toBe(true);
  });

  it('with any allows all', () => {
    for (const address of ['0.0.0.0', '255.255.255.255', 'ff02::1', '169.254.169.254', '2001:0:a00:1::1']) {
      expect(allows(AddressPolicy.parse('any'), address)).toBe(true);
    }
  });

  it('allows a host whatever its address, but no other host that has the address', () => {
    const policy = AddressPolicy.parse('Models.Internal.');
    expect(allows(policy, '10.0.0.1', 443, 'models.internal')).toBe(true);
    expect(allows(policy, '10.0.0.1', 443, 'MODELS.internal.')).toBe(true);
    expect(allows(policy, '10.0.0.1', 443, 'other.internal')).toBe(false);
    expect(allows(policy, '10.0.0.1', 443, 'x.models.internal')).toBe(false);
  });

  it.each(['models.internal:8000', '10.0.0.1:8000', '[fd00::1]:8000'])('keeps %s to its port', (list) => {
    const policy = AddressPolicy.parse(list);
    const address = list.startsWith('[') ? 'fd00::1' : '10.0.0.1';
    expect(allows(policy, address, 8000, 'models.internal')).toBe(true);
    expect(allows(policy, address, 8001, 'models.internal')).toBe(false);
  });

  it('takes an origin besides', () => {
    const policy = AddressPolicy.parse('10.0.0.0/8').withOrigin('http://127.0.0.1:41234/v2');
    expect(allows(policy, '127.0.0.1', 41234, '127.0.0.1')).toBe(true);
    expect(allows(policy, '127.0.0.1', 41235, '127.0.0.1')).toBe(false);
    expect(allows(policy, '10.0.0.1', 1)).toBe(true);
    expect(AddressPolicy.parse('').withOrigin('https://box.internal').toString()).toBe('box.internal:443');
    expect(AddressPolicy.parse('').withOrigin('http://[::1]:80').toString()).toBe('[::1]:80');
  });

  it('survives being written and read', () => {
    const list = 'loopback,10.0.0.0/8,models.internal:8000,[fd00::1]:443,::1';
    expect(AddressPolicy.parse(list).toString()).toBe(list);
    expect(AddressPolicy.parse(' loopback , ,10.0.0.1').toString()).toBe('loopback,10.0.0.1');
  });

  it.each([
    '10.0.0.0/33',
    '10.1',
    '300.0.0.1',
    'http://box',
    'box:0',
    'box:70000',
    'a b',
    '*.internal',
    '[::1',
    'fd00::/129',
  ])('does not take %s', (list) => {
    expect(() => AddressPolicy.parse(`loopback,${list}`)).toThrow(AddressPolicyError);
    expect(() => AddressPolicy.parse(`loopback,${list}`)).toThrow(`"${list}"`);
  });
});
