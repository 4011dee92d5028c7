//! Where viewers are: countries with their share of the audience, their distance from UTC and some of their networks.
//!
//! The networks are /16 blocks that the bundled country database assigns wholly to the country, so an event's country
//! follows from its address as it would for real traffic.

use super::dice::mix;

pub struct Country {
    /// ISO 3166; for tests and readers, as the database has the word on an address.
    #[cfg_attr(not(test), expect(dead_code))]
    pub code: &'static str,
    /// Standard time; viewers' days need no daylight saving.
    pub utc_offset_minutes: i32,
    weight: u64,
    networks: &'static [[u8; 2]],
}

impl Country {
    /// Where viewer `user` lives: always the same place.
    pub fn of(user: u32) -> &'static Country {
        let total: u64 = COUNTRIES.iter().map(|country| country.weight).sum();
        let mut point = mix(u64::from(user) ^ 0xc0_0417) % total;
        for country in COUNTRIES {
            if point < country.weight {
                return country;
            }
            point -= country.weight;
        }
        unreachable!("the point is below the sum of the weights")
    }

    /// The address of viewer `user` in this country.
    pub fn address(&self, user: u32) -> [u8; 4] {
        let spread = mix(u64::from(user) ^ 0xadd_4e55);
        let [first, second] = self.networks[(spread >> 32) as usize % self.networks.len()];
        [first, second, (spread >> 8) as u8, 1 + (spread as u8) % 254]
    }
}

#[rustfmt::skip]
const COUNTRIES: &[Country] = &[
    Country { code: "US", utc_offset_minutes: -300, weight: 20, networks: &[[16, 148], [24, 61], [32, 22], [56, 130], [136, 2], [164, 76], [167, 242], [173, 7]] },
    Country { code: "BR", utc_offset_minutes: -180, weight: 8, networks: &[[177, 189], [179, 222], [186, 232], [187, 16], [187, 44], [189, 124], [191, 198], [191, 246]] },
    Country { code: "IN", utc_offset_minutes: 330, weight: 9, networks: &[[1, 22], [13, 206], [47, 31], [115, 254], [132, 154], [169, 149], [171, 60], [205, 253]] },
    Country { code: "DE", utc_offset_minutes: 60, weight: 6, networks: &[[3, 67], [3, 74], [3, 124], [51, 27], [80, 187], [91, 19], [188, 40], [217, 232]] },
    Country { code: "GB", utc_offset_minutes: 0, weight: 6, networks: &[[2, 217], [9, 166], [78, 33], [79, 65], [92, 236], [109, 157], [149, 204], [154, 15]] },
    Country { code: "FR", utc_offset_minutes: 60, weight: 5, networks: &[[88, 160], [88, 184], [88, 189], [90, 112], [93, 26], [163, 88], [176, 136], [213, 11]] },
    Country { code: "JP", utc_offset_minutes: 540, weight: 6, networks: &[[27, 95], [61, 192], [110, 130], [121, 110], [133, 39], [153, 132], [180, 25], [221, 43]] },
    Country { code: "MX", utc_offset_minutes: -360, weight: 4, networks: &[[187, 138], [187, 201], [189, 136], [189, 200], [189, 204], [201, 120], [201, 145], [201, 153]] },
    Country { code: "KR", utc_offset_minutes: 540, weight: 3, networks: &[[113, 217], [169, 217], [175, 117], [203, 244]] },
    Country { code: "ID", utc_offset_minutes: 420, weight: 4, networks: &[[36, 67], [39, 217], [114, 11], [114, 14], [120, 163], [120, 191], [182, 3], [222, 124]] },
    Country { code: "TR", utc_offset_minutes: 180, weight: 3, networks: &[[78, 175], [88, 234], [88, 247], [176, 232]] },
    Country { code: "IT", utc_offset_minutes: 60, weight: 4, networks: &[[31, 195], [37, 180], [93, 63], [95, 242], [151, 7], [151, 49], [195, 120], [213, 82]] },
    Country { code: "ES", utc_offset_minutes: 60, weight: 4, networks: &[[15, 217], [79, 113], [84, 126], [85, 58], [88, 17], [88, 27], [90, 161], [212, 128]] },
    Country { code: "CA", utc_offset_minutes: -300, weight: 4, networks: &[[24, 71], [132, 206], [142, 35], [153, 68], [159, 21], [164, 166], [167, 227], [184, 150]] },
    Country { code: "AU", utc_offset_minutes: 600, weight: 2, networks: &[[60, 226], [60, 228], [110, 22], [162, 147]] },
    Country { code: "NL", utc_offset_minutes: 60, weight: 2, networks: &[[20, 56], [94, 168], [213, 46], [213, 127]] },
    Country { code: "PL", utc_offset_minutes: 60, weight: 3, networks: &[[80, 55], [83, 24], [87, 207], [93, 105]] },
    Country { code: "SE", utc_offset_minutes: 60, weight: 2, networks: &[[90, 227], [130, 236], [151, 156], [195, 196]] },
    Country { code: "NO", utc_offset_minutes: 60, weight: 1, networks: &[[153, 15], [158, 149], [163, 174], [195, 204]] },
    Country { code: "FI", utc_offset_minutes: 120, weight: 1, networks: &[[2, 31], [85, 157], [157, 124], [194, 136]] },
    Country { code: "DK", utc_offset_minutes: 60, weight: 1, networks: &[[5, 186], [83, 93], [147, 29], [195, 249]] },
    Country { code: "CH", utc_offset_minutes: 60, weight: 1, networks: &[[86, 119], [158, 226], [178, 198], [194, 209]] },
    Country { code: "AT", utc_offset_minutes: 60, weight: 1, networks: &[[91, 114], [131, 130], [143, 130], [212, 186]] },
    Country { code: "BE", utc_offset_minutes: 60, weight: 1, networks: &[[9, 160], [81, 165], [84, 199], [109, 128]] },
    Country { code: "PT", utc_offset_minutes: 0, weight: 1, networks: &[[94, 62], [188, 83], [213, 13], [213, 22]] },
    Country { code: "AR", utc_offset_minutes: -180, weight: 3, networks: &[[161, 190], [186, 126], [190, 172], [201, 251]] },
    Country { code: "CL", utc_offset_minutes: -240, weight: 2, networks: &[[165, 182], [181, 163], [181, 172], [186, 21]] },
    Country { code: "CO", utc_offset_minutes: -300, weight: 2, networks: &[[190, 66], [191, 146], [191, 151], [191, 159]] },
    Country { code: "ZA", utc_offset_minutes: 120, weight: 2, networks: &[[41, 2], [41, 22], [105, 185], [197, 107]] },
    Country { code: "EG", utc_offset_minutes: 120, weight: 2, networks: &[[41, 39], [41, 40], [45, 97], [156, 203]] },
    Country { code: "NG", utc_offset_minutes: 60, weight: 2, networks: &[[102, 93], [105, 113], [105, 117], [105, 119]] },
    Country { code: "TH", utc_offset_minutes: 420, weight: 2, networks: &[[27, 254], [58, 9], [110, 170], [114, 128]] },
    Country { code: "VN", utc_offset_minutes: 420, weight: 3, networks: &[[14, 228], [14, 231], [14, 253], [115, 77]] },
    Country { code: "PH", utc_offset_minutes: 480, weight: 3, networks: &[[112, 202], [122, 54], [122, 55], [124, 106]] },
    Country { code: "MY", utc_offset_minutes: 480, weight: 1, networks: &[[120, 139], [121, 121], [175, 142], [180, 73]] },
    Country { code: "TW", utc_offset_minutes: 480, weight: 2, networks: &[[27, 241], [61, 30], [125, 229], [219, 84]] },
    Country { code: "UA", utc_offset_minutes: 120, weight: 1, networks: &[[46, 96], [77, 52], [89, 209], [94, 178]] },
    Country { code: "RO", utc_offset_minutes: 120, weight: 1, networks: &[[81, 196], [89, 121], [89, 122], [193, 230]] },
    Country { code: "CZ", utc_offset_minutes: 60, weight: 1, networks: &[[46, 135], [89, 177], [90, 178], [188, 175]] },
    Country { code: "NZ", utc_offset_minutes: 720, weight: 1, networks: &[[27, 252], [49, 224], [118, 149], [155, 32]] },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn viewers_are_spread_over_the_world_at_routable_addresses() {
        let mut seen = BTreeSet::new();
        for user in 0..10_000 {
            let country = Country::of(user);
            seen.insert(country.code);
            let address = std::net::Ipv4Addr::from(country.address(user));
            assert!(!address.is_private() && !address.is_loopback() && !address.is_multicast(), "{address}");
        }
        assert_eq!(seen.len(), COUNTRIES.len());
    }
}
