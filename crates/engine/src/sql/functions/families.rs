//! One list of uap-core's patterns: the first that matches names the family.
//!
//! Which patterns can match at all is told by the literals that they need, found in one pass over the user agent
//! (regex-filtered, after FilteredRE2). A pattern is compiled when a user agent has its literals for the first time: an
//! audience needs some dozens of the thousand, and all of them compiled held 27 MB. It knows nothing of the list's file.

use std::sync::{LazyLock, OnceLock};

use aho_corasick::AhoCorasick;
use regex::bytes::{Captures, Regex, RegexBuilder};
use regex_filtered::mapper::{Builder, Mapper};
use regex_filtered::model::Model;

/// Literals shorter than this narrow nothing down.
const LITERAL: usize = 3;
/// Answers are cached by user agent, so a pattern may forget the states it has walked through: bytes of each.
const WALK: usize = 64 << 10;

pub struct Rule {
    /// Where the file has it.
    pub line: usize,
    pub regex: String,
    pub ignore_case: bool,
    /// The family, with `$1` for what the first group holds; without one the first group is the family.
    pub family: Option<String>,
}

pub struct Families {
    patterns: Vec<Pattern>,
    mapper: Mapper,
    literals: AhoCorasick,
}

struct Pattern {
    rule: Rule,
    /// None where it turned out too large.
    compiled: OnceLock<Option<Regex>>,
}

impl Families {
    /// Errors name the line of a pattern that cannot be read.
    pub fn new(mut rules: Vec<Rule>) -> Result<Families, String> {
        rules.iter_mut().for_each(|rule| rule.regex = unbounded(&rule.regex));
        let mut models = Builder::new(LITERAL);
        for rule in &rules {
            let tree = regex_syntax::ParserBuilder::new().case_insensitive(rule.ignore_case).build().parse(&rule.regex);
            let tree = tree.map_err(|error| format!("line {}: {error}", rule.line))?;
            // One too manifold to tell its literals is tried every time.
            models.push(Model::new(&tree).unwrap_or_else(|_| Model::all()));
        }
        let (mapper, literals) = models.build();
        let literals = AhoCorasick::builder().ascii_case_insensitive(true).build(literals);
        let patterns = rules.into_iter().map(|rule| Pattern { rule, compiled: OnceLock::new() }).collect();
        Ok(Families { patterns, mapper, literals: literals.map_err(|error| error.to_string())? })
    }

    pub fn family(&self, user_agent: &str) -> Option<Box<str>> {
        let present = self.literals.find_overlapping_iter(user_agent).map(|found| found.pattern().as_usize());
        // In the order of the list.
        self.mapper.atom_to_re(present).into_iter().find_map(|index| self.patterns[index].family(user_agent))
    }
}

/// The file bounds what may come between by hundreds, against engines whose time grows out of hand; here it only costs
/// memory, and misses what is long.
fn unbounded(regex: &str) -> String {
    static LONG: LazyLock<regex::Regex> =
        LazyLock::new(|| regex::Regex::new(r"\{([01]),[0-9]{3,}\}").expect("the pattern is valid"));
    LONG.replace_all(regex, |found: &regex::Captures<'_>| if &found[1] == "0" { "*" } else { "+" }).into_owned()
}

impl Pattern {
    fn family(&self, user_agent: &str) -> Option<Box<str>> {
        let captures = self.compiled.get_or_init(|| self.rule.compile()).as_ref()?.captures(user_agent.as_bytes())?;
        let Some(template) = &self.rule.family else { return Some(group(&captures, 1).into()) };
        let mut family = String::new();
        let mut rest = template.as_str();
        while let Some((before, after)) = rest.split_once('$') {
            family.push_str(before);
            match after.bytes().next().filter(u8::is_ascii_digit) {
                Some(digit) => {
                    family.push_str(&group(&captures, usize::from(digit - b'0')));
                    rest = &after[1..];
                }
                None => {
                    family.push('$');
                    rest = after;
                }
            }
        }
        family.push_str(rest);
        Some(family.trim().into())
    }
}

impl Rule {
    /// Over bytes: the patterns mean ASCII by `\d` and `\w`, and are a fraction of their size so.
    fn compile(&self) -> Option<Regex> {
        let mut builder = RegexBuilder::new(&self.regex);
        let compiled = builder.unicode(false).case_insensitive(self.ignore_case).dfa_size_limit(WALK).build();
        compiled
            .inspect_err(|error| tracing::warn!("user agent pattern of line {} is left out: {error}", self.line))
            .ok()
    }
}

/// What a group holds, empty where it took no part.
fn group<'a>(captures: &Captures<'a>, index: usize) -> std::borrow::Cow<'a, str> {
    captures.get(index).map_or_else(Default::default, |found| String::from_utf8_lossy(found.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(regex: &str, family: Option<&str>) -> Rule {
        Rule { line: 1, regex: regex.into(), ignore_case: false, family: family.map(String::from) }
    }

    #[test]
    fn the_first_that_matches_names_the_family() {
        let rules = vec![
            rule(r"(Fire)fox/\d+ (\w+)?", Some("$1 $2 $")),
            rule(r"(Chrome)/(\d+)", None),
            rule("Fox", Some("Fox")),
            rule("", Some("anything")),
        ];
        let families = Families::new(rules).unwrap();
        assert_eq!(families.family("Mozilla Firefox/12 beta").as_deref(), Some("Fire beta $"));
        assert_eq!(families.family("Mozilla Firefox/12 ").as_deref(), Some("Fire  $"));
        assert_eq!(families.family("Chrome/1 Fox").as_deref(), Some("Chrome"));
        assert_eq!(families.family("Fox").as_deref(), Some("Fox"));
        assert_eq!(families.family("").as_deref(), Some("anything"));
    }

    #[test]
    fn what_comes_between_may_be_long() {
        let families = Families::new(vec![rule("^.{0,200}?(Bot)s{1,100}x{1,9}$", None)]).unwrap();
        assert_eq!(families.family(&format!("{}Bot{}x", "a".repeat(300), "s".repeat(200))).as_deref(), Some("Bot"));
        assert_eq!(families.family("Botsxxxxxxxxxx"), None);
    }

    #[test]
    fn a_pattern_that_cannot_be_read_is_refused_with_its_line() {
        assert!(Families::new(vec![rule("(open", None)]).err().unwrap().starts_with("line 1: "));
    }

    #[test]
    fn a_group_that_cuts_a_character_is_readable_all_the_same() {
        let families = Families::new(vec![rule(r"Client(..)", None)]).unwrap();
        assert_eq!(families.family("Client\u{17e}x").as_deref(), Some("\u{17e}"));
        assert_eq!(families.family("Clientx\u{17e}").as_deref(), Some("x\u{fffd}"));
    }
}
