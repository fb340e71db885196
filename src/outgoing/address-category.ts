import ipaddr from 'ipaddr.js';

export type Address = ipaddr.IPv4 | ipaddr.IPv6;

export type AddressCategory =
  | 'public'
  | 'loopback'
  | 'private'
  | 'link-local'
  | 'unspecified'
  | 'multicast'
  | 'reserved';

const CATEGORY_OF: Partial<Record<string, AddressCategory>> = {
  loopback: 'loopback',
  private: 'private',
  carrierGradeNat: 'private',
  uniqueLocal: 'private',
  linkLocal: 'link-local',
  unspecified: 'unspecified',
  multicast: 'multicast',
};

/** What the registries of IANA allot so far to public IPv6 addresses; whatever lies outside is no host on the Internet. */
const GLOBAL_UNICAST_IPV6 = ipaddr.IPv6.parseCIDR('2000::/3');

/** Judges the address by itself; one that another carries inside is found by {@link destinationsOf}. */
export function categoryOf(address: Address): AddressCategory {
  const range = address.range();
  if (range !== 'unicast') return CATEGORY_OF[range] ?? 'reserved';
  const isGlobal = address.kind() === 'ipv4' || (address as ipaddr.IPv6).match(GLOBAL_UNICAST_IPV6);
  return isGlobal ? 'public' : 'reserved';
}

/**
 * Where packets to an address end up: at the IPv4 addresses that it embeds (IPv4-mapped, NAT64 of RFC 6052, 6to4, Teredo,
 * whose server and client both count), or at itself.
 */
export function destinationsOf(address: Address): Address[] {
  if (address.kind() === 'ipv4') return [address];
  const ipv6 = address as ipaddr.IPv6;
  const bytes = ipv6.toByteArray();
  const ipv4At = (offset: number, mask = 0) =>
    new ipaddr.IPv4(bytes.slice(offset, offset + 4).map((byte) => byte ^ mask));
  if (ipv6.isIPv4MappedAddress() || ipv6.match(WELL_KNOWN_NAT64)) return [ipv4At(12)];
  switch (ipv6.range()) {
    case '6to4':
      return [ipv4At(2)];
    case 'teredo':
      return [ipv4At(4), ipv4At(12, 0xff)];
    default:
      return [address];
  }
}

const WELL_KNOWN_NAT64 = ipaddr.IPv6.parseCIDR('64:ff9b::/96');
