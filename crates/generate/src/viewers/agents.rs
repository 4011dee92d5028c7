//! What viewers hold in their hands: about two hundred user agents, in families weighted by how common they are.

use super::dice::mix;

pub struct Agents {
    families: Vec<(u64, Vec<String>)>,
    total: u64,
}

impl Agents {
    pub fn new() -> Self {
        let families = vec![
            (26, android_chrome()),
            (20, iphone_safari()),
            (16, desktop_chrome()),
            (7, desktop_safari()),
            (7, edge()),
            (6, firefox()),
            (6, apps()),
            (5, samsung()),
            (5, televisions()),
            (2, tablets()),
        ];
        let total = families.iter().map(|(weight, _)| weight).sum();
        Self { families, total }
    }

    /// The device of viewer `user`: always the same one.
    pub fn of(&self, user: u32) -> &str {
        let spread = mix(u64::from(user) ^ 0xde_71ce);
        let mut point = (spread >> 32) % self.total;
        for (weight, family) in &self.families {
            if point < *weight {
                return &family[spread as u32 as usize % family.len()];
            }
            point -= weight;
        }
        unreachable!("the point is below the sum of the weights")
    }

    #[cfg(test)]
    fn all(&self) -> impl Iterator<Item = &String> {
        self.families.iter().flat_map(|(_, family)| family)
    }
}

const WEBKIT: &str = "AppleWebKit/537.36 (KHTML, like Gecko)";
const CHROME_VERSIONS: std::ops::Range<u32> = 130..140;

fn android_chrome() -> Vec<String> {
    let phones = ["10; K", "14; Pixel 8", "15; Pixel 9 Pro", "13; 22101316G", "14; SM-S921B", "12; CPH2387"];
    let mut agents = Vec::new();
    for phone in phones {
        for version in CHROME_VERSIONS.step_by(2) {
            agents.push(format!(
                "Mozilla/5.0 (Linux; Android {phone}) {WEBKIT} Chrome/{version}.0.0.0 Mobile Safari/537.36"
            ));
        }
    }
    agents
}

fn iphone_safari() -> Vec<String> {
    ["16_6", "16_7_10", "17_4", "17_5_1", "17_6_1", "18_0", "18_1_1", "18_3", "18_5", "18_6"]
        .into_iter()
        .flat_map(|system| {
            let version = system.split('_').take(2).collect::<Vec<_>>().join(".");
            ["15E148", "22G86"].map(|build| {
                format!(
                    "Mozilla/5.0 (iPhone; CPU iPhone OS {system} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                     Version/{version} Mobile/{build} Safari/604.1"
                )
            })
        })
        .collect()
}

fn desktop_chrome() -> Vec<String> {
    let systems = [
        "Windows NT 10.0; Win64; x64",
        "Macintosh; Intel Mac OS X 10_15_7",
        "X11; Linux x86_64",
        "X11; CrOS x86_64 14541.0.0",
    ];
    let mut agents = Vec::new();
    for system in systems {
        for version in CHROME_VERSIONS {
            agents.push(format!("Mozilla/5.0 ({system}) {WEBKIT} Chrome/{version}.0.0.0 Safari/537.36"));
        }
    }
    agents
}

fn desktop_safari() -> Vec<String> {
    ["16.6", "17.0", "17.4.1", "17.6", "18.0", "18.1.1", "18.3", "18.4", "18.5", "18.6"]
        .map(|version| {
            format!(
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                 Version/{version} Safari/605.1.15"
            )
        })
        .to_vec()
}

fn edge() -> Vec<String> {
    CHROME_VERSIONS
        .flat_map(|version| {
            ["Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7"].map(|system| {
                format!("Mozilla/5.0 ({system}) {WEBKIT} Chrome/{version}.0.0.0 Safari/537.36 Edg/{version}.0.0.0")
            })
        })
        .collect()
}

fn firefox() -> Vec<String> {
    (128..140)
        .step_by(2)
        .flat_map(|version| {
            [
                "Windows NT 10.0; Win64; x64",
                "Macintosh; Intel Mac OS X 10.15",
                "X11; Ubuntu; Linux x86_64",
                "Android 14; Mobile",
            ]
            .map(|system| {
                let trail = if system.starts_with("Android") { format!("{version}.0") } else { "20100101".to_owned() };
                format!("Mozilla/5.0 ({system}; rv:{version}.0) Gecko/{trail} Firefox/{version}.0")
            })
        })
        .collect()
}

fn apps() -> Vec<String> {
    (20..28)
        .flat_map(|release| {
            [
                format!("Playhouse/5.{release} (iPhone; iOS 17.6.1; Scale/3.00)"),
                format!("Playhouse/5.{release} (Linux; Android 14; SM-A546B)"),
            ]
        })
        .collect()
}

fn samsung() -> Vec<String> {
    ["SM-S918B", "SM-A536B", "SM-G991B", "SM-A155F"]
        .into_iter()
        .flat_map(|model| {
            [("26.0", 122), ("27.0", 125), ("28.0", 130)].map(|(browser, chrome)| {
                format!(
                    "Mozilla/5.0 (Linux; Android 14; {model}) {WEBKIT} SamsungBrowser/{browser} Chrome/{chrome}.0.0.0 \
                     Mobile Safari/537.36"
                )
            })
        })
        .collect()
}

fn televisions() -> Vec<String> {
    vec![
        format!("Mozilla/5.0 (SMART-TV; LINUX; Tizen 6.0) {WEBKIT} 76.0.3809.146/6.0 TV Safari/537.36"),
        format!("Mozilla/5.0 (SMART-TV; LINUX; Tizen 7.0) {WEBKIT} 94.0.4606.31/7.0 TV Safari/537.36"),
        format!("Mozilla/5.0 (Web0S; Linux/SmartTV) {WEBKIT} Chrome/94.0.4606.128 Safari/537.36 WebAppManager"),
        format!("Mozilla/5.0 (Web0S; Linux/SmartTV) {WEBKIT} Chrome/108.0.5359.211 Safari/537.36 WebAppManager"),
        format!("Mozilla/5.0 (Linux; Android 12; BRAVIA 4K VH2) {WEBKIT} Chrome/120.0.0.0 Safari/537.36"),
        format!("Mozilla/5.0 (Linux; Android 9; AFTKA) {WEBKIT} Silk/112.5.1 like Chrome/112.0.5615.213 Safari/537.36"),
        format!("Mozilla/5.0 (PlayStation; PlayStation 5/9.00) AppleWebKit/605.1.15 (KHTML, like Gecko)"),
        format!(
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64; Xbox; Xbox One) {WEBKIT} Chrome/130.0.0.0 Safari/537.36 Edg/130.0.0.0"
        ),
        "Roku/DVP-12.5 (12.5.0.4178-88)".to_owned(),
        "AppleCoreMedia/1.0.0.21L227 (Apple TV; U; CPU OS 17_2 like Mac OS X; en_us)".to_owned(),
    ]
}

fn tablets() -> Vec<String> {
    let mut agents: Vec<String> = ["15_8", "16_7", "17_6", "18_3", "18_5"]
        .into_iter()
        .map(|system| {
            let version = system.replace('_', ".");
            format!(
                "Mozilla/5.0 (iPad; CPU OS {system} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                 Version/{version} Mobile/15E148 Safari/604.1"
            )
        })
        .collect();
    for model in ["SM-X710", "SM-T870", "TB-X606F"] {
        agents.push(format!("Mozilla/5.0 (Linux; Android 13; {model}) {WEBKIT} Chrome/134.0.0.0 Safari/537.36"));
    }
    agents
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn user_agents_are_distinct_and_need_no_escaping() {
        let agents = Agents::new();
        let distinct: BTreeSet<_> = agents.all().collect();
        assert_eq!(distinct.len(), agents.all().count());
        assert!((180..260).contains(&distinct.len()), "{}", distinct.len());
        assert!(
            distinct
                .iter()
                .all(|agent| agent.bytes().all(|byte| (b' '..0x7f).contains(&byte) && !b"\"\\".contains(&byte)))
        );
    }
}
