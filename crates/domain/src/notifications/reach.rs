//! Which addresses a delivery may be sent to, so that no URL makes us knock at what is not meant for us (SSRF).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Anybody.
    Public,
    /// This machine, or a network of somebody's own: only where that is allowed.
    Private,
    /// Nobody we may ever speak to: link-local, with the metadata of clouds, multicast, what is reserved.
    Never,
}

/// What is at an address. An IPv6 address that carries an IPv4 address is what that is.
pub fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    match address.octets() {
        [127 | 10, ..] | [192, 168, ..] => Reach::Private,
        [172, second, ..] if (16..32).contains(&second) => Reach::Private,
        // Shared between a carrier and its customers (RFC 6598).
        [100, second, ..] if (64..128).contains(&second) => Reach::Private,
        [0, ..] | [169, 254, ..] | [224..=255, ..] => Reach::Never,
        // For protocols, documentation and benchmarks (RFC 6890, RFC 5737, RFC 2544); relays of 6to4 (RFC 7526).
        [192, 0, 0 | 2, _] | [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => {
            Reach::Never
        }
        [192, 88, 99, _] => Reach::Never,
        _ => Reach::Public,
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    if let Some(carried) = carried(address) {
        return reach_v4(carried);
    }
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Private,
        // fc00::/7, and fec0::/10, which went before it.
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Reach::Private,
        // Only 2000::/3 is given to anybody. Of it 6to4 and Teredo lead on to addresses that we do not see, and the
        // rest here is for documentation and for protocols (RFC 3849, RFC 9637, RFC 6890).
        [0x2002, ..]
        | [0x2001, 0..=0x01ff, ..]
        | [0x2001, 0x0db8, ..]
        | [0x3fff, 0..=0x0fff, ..] => Reach::Never,
        [0x2000..=0x3fff, ..] => Reach::Public,
        _ => Reach::Never,
    }
}

/// The IPv4 address in a mapped one (`::ffff:0:0/96`) or one for NAT64 (`64:ff9b::/96`, RFC 6052).
fn carried(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., high, low] = match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] => address.segments(),
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => address.segments(),
        _ => return None,
    };
    let [a, b] = high.to_be_bytes();
    let [c, d] = low.to_be_bytes();
    Some(Ipv4Addr::new(a, b, c, d))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_address_is_what_it_leads_to() {
        let cases = [
            ("93.184.215.14", Reach::Public),
            ("172.15.0.1", Reach::Public),
            ("100.128.0.1", Reach::Public),
            ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", Reach::Public),
            ("::ffff:93.184.215.14", Reach::Public),
            ("64:ff9b::5db8:d70e", Reach::Public),
            ("127.0.0.1", Reach::Private),
            ("127.255.1.2", Reach::Private),
            ("10.0.0.1", Reach::Private),
            ("172.16.0.1", Reach::Private),
            ("172.31.255.255", Reach::Private),
            ("192.168.1.1", Reach::Private),
            ("100.64.0.1", Reach::Private),
            ("::1", Reach::Private),
            ("fd00::1", Reach::Private),
            ("fc00::1", Reach::Private),
            ("fec0::1", Reach::Private),
            ("::ffff:127.0.0.1", Reach::Private),
            ("::ffff:10.1.2.3", Reach::Private),
            ("64:ff9b::7f00:1", Reach::Private),
            ("0.0.0.0", Reach::Never),
            ("0.1.2.3", Reach::Never),
            ("169.254.169.254", Reach::Never),
            ("::ffff:169.254.169.254", Reach::Never),
            ("64:ff9b::a9fe:a9fe", Reach::Never),
            ("64:ff9b:1::a9fe:a9fe", Reach::Never),
            ("224.0.0.1", Reach::Never),
            ("240.0.0.1", Reach::Never),
            ("255.255.255.255", Reach::Never),
            ("192.0.2.1", Reach::Never),
            ("198.18.0.1", Reach::Never),
            ("::", Reach::Never),
            ("::127.0.0.1", Reach::Never),
            ("fe80::1", Reach::Never),
            ("ff02::1", Reach::Never),
            ("2002:7f00:1::", Reach::Never),
            ("2001:0:4136:e378::", Reach::Never),
            ("2001:db8::1", Reach::Never),
        ];
        for (address, expected) in cases {
            let parsed = address.parse::<IpAddr>().unwrap();
            assert_eq!(reach(parsed), expected, "{address}");
        }
    }
}
