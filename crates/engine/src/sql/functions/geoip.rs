//! `geoip_country(ip)`: the ISO code of an IPv4 address; null where unknown.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arrow::array::{Array, StringArray, StringBuilder};
use bytes::Bytes;
use maxminddb::{PathElement, Reader};
use parking_lot::Mutex;

/// Places in the cache (a power of two); an address has exactly one, so that a miss replaces and nothing grows.
const PLACES: usize = 1 << 16;
const UNKNOWN: u16 = u16::MAX;

/// Where the code stands: in the database we carry, and in MaxMind's own.
const PATHS: [&[PathElement<'static>]; 2] =
    [&[PathElement::Key("country_code")], &[PathElement::Key("country"), PathElement::Key("iso_code")]];

pub struct Countries {
    database: Reader<Bytes>,
    cache: Mutex<Cache>,
}

struct Cache {
    /// Address and country; the address of an empty place maps to another place.
    places: Vec<(u32, u16)>,
    /// The country codes seen so far.
    codes: Vec<Box<str>>,
}

fn place(address: u32) -> usize {
    (address.wrapping_mul(0x9E37_79B1) >> 16) as usize & (PLACES - 1)
}

impl Countries {
    pub fn open(database: Bytes) -> Result<Countries, String> {
        let database =
            Reader::from_source(database).map_err(|error| format!("the country database is unreadable: {error}"))?;
        // Address 0 belongs to place 0 alone: everywhere else it marks the empty place; place 0 gets one that does not
        // belong there.
        let mut places = vec![(0, UNKNOWN); PLACES];
        places[0].0 = 1;
        Ok(Countries { database, cache: Mutex::new(Cache { places, codes: Vec::new() }) })
    }

    pub fn look_up(&self, addresses: &StringArray) -> StringArray {
        let mut countries = StringBuilder::with_capacity(addresses.len(), addresses.len() * 2);
        let mut cache = self.cache.lock();
        for text in addresses {
            match text.and_then(address).map(|address| self.country(&mut cache, address)) {
                None | Some(UNKNOWN) => countries.append_null(),
                Some(code) => countries.append_value(&cache.codes[usize::from(code)]),
            }
        }
        countries.finish()
    }

    fn country(&self, cache: &mut Cache, address: Ipv4Addr) -> u16 {
        let key = u32::from(address);
        let (cached, code) = cache.places[place(key)];
        if cached == key {
            return code;
        }
        // An unreadable record is an unknown country, alike on every replay.
        let record = self.database.lookup(IpAddr::V4(address)).ok();
        let found =
            record.and_then(|record| PATHS.iter().find_map(|path| record.decode_path::<&str>(path).ok().flatten()));
        let code = match found {
            None => UNKNOWN,
            Some(iso) => match cache.codes.iter().position(|known| **known == *iso) {
                Some(index) => index as u16,
                None if cache.codes.len() < usize::from(UNKNOWN) => {
                    cache.codes.push(iso.into());
                    (cache.codes.len() - 1) as u16
                }
                None => UNKNOWN,
            },
        };
        cache.places[place(key)] = (key, code);
        code
    }
}

/// Also the IPv4 address inside an IPv6 one (`::ffff:83.149.9.216`), as a dual-stack socket reports it.
fn address(text: &str) -> Option<Ipv4Addr> {
    text.parse().ok().or_else(|| text.parse::<Ipv6Addr>().ok()?.to_ipv4_mapped())
}
