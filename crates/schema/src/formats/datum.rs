//! Whether bytes are one Avro datum of a schema, whole. The work is bounded by the bytes, not by the counts and recursions
//! that they claim.

use super::avro::{Avro, Kind, Primitive, Type};
use crate::Reason;

/// Levels of a value.
const DEPTH_MAX: usize = 127;
/// Values that take no bytes (null, and what consists of it) are counted against this.
const EMPTY_VALUES_MAX: usize = 1 << 16;

pub(crate) fn check(avro: &Avro, payload: &[u8]) -> Result<(), Reason> {
    let steps = EMPTY_VALUES_MAX + 4 * payload.len();
    let mut decoder = Decoder { avro, rest: payload, whole: payload.len(), steps, path: Vec::new() };
    decoder.value(&avro.root)?;
    match decoder.rest.len() {
        0 => Ok(()),
        more => Err(decoder.reason("avro", format!("{more} bytes follow the value"))),
    }
}

struct Decoder<'a> {
    avro: &'a Avro,
    rest: &'a [u8],
    whole: usize,
    steps: usize,
    path: Vec<String>,
}

impl<'a> Decoder<'a> {
    fn reason(&self, keyword: &str, what: String) -> Reason {
        let path = self.path.iter().map(|step| format!("/{}", step.replace('~', "~0").replace('/', "~1"))).collect();
        let at = self.whole - self.rest.len();
        Reason { path, message: format!("{what} at byte {at}"), keyword: keyword.to_owned() }
    }

    fn broken<T>(&self, what: impl Into<String>) -> Result<T, Reason> {
        Err(self.reason("avro", what.into()))
    }

    fn within<T>(&mut self, step: String, inner: impl FnOnce(&mut Self) -> Result<T, Reason>) -> Result<T, Reason> {
        if self.path.len() >= DEPTH_MAX {
            return Err(self.reason("depth", format!("nested deeper than {DEPTH_MAX} levels")));
        }
        self.path.push(step);
        let result = inner(self)?;
        self.path.pop();
        Ok(result)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Reason> {
        match self.rest.split_at_checked(count) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => self.broken(format!("{count} bytes wanted, {} left", self.rest.len())),
        }
    }

    /// A zigzag varint.
    fn long(&mut self) -> Result<i64, Reason> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        self.broken("a number of more than 64 bits")
    }

    fn length(&mut self) -> Result<usize, Reason> {
        let length = self.long()?;
        usize::try_from(length).or_else(|_| self.broken(format!("the length {length}")))
    }

    fn text(&mut self) -> Result<&'a str, Reason> {
        let length = self.length()?;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|_| self.reason("encoding", "a string that is not UTF-8".to_owned()))
    }

    fn value(&mut self, schema: &Type) -> Result<(), Reason> {
        let Some(steps) = self.steps.checked_sub(1) else {
            return Err(self.reason("size", "more values than their bytes warrant".to_owned()));
        };
        self.steps = steps;
        let avro = self.avro;
        match schema {
            Type::Primitive(primitive) => self.primitive(*primitive),
            Type::Array(items) => self.blocks(|decoder, at| decoder.within(at.to_string(), |inner| inner.value(items))),
            Type::Map(values) => self.blocks(|decoder, _| {
                let key = decoder.text()?.to_owned();
                decoder.within(key, |inner| inner.value(values))
            }),
            Type::Union(branches) => {
                let at = self.long()?;
                match usize::try_from(at).ok().and_then(|at| branches.get(at)) {
                    Some(branch) => self.value(branch),
                    None => self.broken(format!("branch {at} of a union of {}", branches.len())),
                }
            }
            Type::Named(at) => match &avro.named[*at].kind {
                Kind::Fixed(size) => self.take(*size).map(|_| ()),
                Kind::Enum { symbols, .. } => {
                    let at = self.long()?;
                    match usize::try_from(at).is_ok_and(|at| at < symbols.len()) {
                        true => Ok(()),
                        false => self.broken(format!("symbol {at} of an enum of {}", symbols.len())),
                    }
                }
                Kind::Record(fields) => fields
                    .iter()
                    .try_for_each(|field| self.within(field.name.clone(), |inner| inner.value(&field.schema))),
            },
        }
    }

    fn primitive(&mut self, primitive: Primitive) -> Result<(), Reason> {
        match primitive {
            Primitive::Null => Ok(()),
            Primitive::Boolean => match self.take(1)?[0] {
                0 | 1 => Ok(()),
                other => self.broken(format!("the boolean {other}")),
            },
            Primitive::Int => {
                let value = self.long()?;
                i32::try_from(value).map(|_| ()).or_else(|_| self.broken(format!("{value} is no int")))
            }
            Primitive::Long => self.long().map(|_| ()),
            Primitive::Float => self.take(4).map(|_| ()),
            Primitive::Double => self.take(8).map(|_| ()),
            Primitive::Bytes => {
                let length = self.length()?;
                self.take(length).map(|_| ())
            }
            Primitive::String => self.text().map(|_| ()),
        }
    }

    /// Blocks of items up to an empty one. A negative count is followed by the block's size in bytes.
    fn blocks(&mut self, mut item: impl FnMut(&mut Self, u64) -> Result<(), Reason>) -> Result<(), Reason> {
        let mut at = 0;
        loop {
            let count = self.long()?;
            let size = if count < 0 { Some(self.length()?) } else { None };
            if count == 0 {
                return Ok(());
            }
            let before = self.rest.len();
            for _ in 0..count.unsigned_abs() {
                item(self, at)?;
                at += 1;
            }
            if size.is_some_and(|size| size != before - self.rest.len()) {
                return self.broken("a block whose size is not what it says");
            }
        }
    }
}
