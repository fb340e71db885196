import ipaddr from 'ipaddr.js';

/** A list of proxies cannot be read; the message names the entry and what it should look like. */
export class TrustedProxiesError extends Error {
  override readonly name = 'TrustedProxiesError';
}

type Network = [address: ipaddr.IPv4 | ipaddr.IPv6, bits: number];

/**
 * The reverse proxies in front of the API. Only what they say of a request (who sent it, its id) is believed: from anybody
 * else it could be invented, to evade the limits that count by address.
 */
export class TrustedProxies {
  private constructor(private readonly networks: Network[]) {}

  /**
   * @param list addresses and ranges, separated by commas; nobody when empty
   * @throws TrustedProxiesError
   */
  static parse(list: string): TrustedProxies {
    const entries = list.split(',').map((entry) => entry.trim());
    return new TrustedProxies(entries.filter((entry) => entry !== '').map(parseNetwork));
  }

  trusts(address: string | undefined): boolean {
    if (address === undefined || !ipaddr.isValid(address)) return false;
    // An IPv4 address on an IPv6 socket is ::ffff:a.b.c.d.
    const parsed = ipaddr.process(address);
    return this.networks.some(([network, bits]) => parsed.kind() === network.kind() && parsed.match(network, bits));
  }
}

function parseNetwork(entry: string): Network {
  if (ipaddr.IPv4.isValidFourPartDecimal(entry)) return [ipaddr.IPv4.parse(entry), 32];
  if (ipaddr.IPv6.isValid(entry)) return asIPv4(ipaddr.IPv6.parse(entry), 128);
  if (ipaddr.IPv4.isValidCIDRFourPartDecimal(entry) || ipaddr.IPv6.isValidCIDR(entry)) {
    const [address, bits] = asIPv4(...ipaddr.parseCIDR(entry));
    if (bits > 0) return [address, bits];
    throw new TrustedProxiesError(
      `"${entry}" is everybody: anyone could then say to be anyone. Name the addresses of the proxies alone.`,
    );
  }
  throw new TrustedProxiesError(
    `"${entry}" is no address or range. Use for example 10.1.2.3, 10.0.0.0/8 or fd00::/8, separated by commas.`,
  );
}

/** As callers' addresses are compared: an IPv4 address is one also where it is written as ::ffff:a.b.c.d. */
function asIPv4(...[address, bits]: Network): Network {
  const isMapped = address instanceof ipaddr.IPv6 && address.isIPv4MappedAddress() && bits >= 96;
  return isMapped ? [address.toIPv4Address(), bits - 96] : [address, bits];
}
