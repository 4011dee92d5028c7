//! Reads one Avro datum of a schema, whole: to know whether it is one, or to show it to a [`Sink`]. The work is bounded by the
//! bytes, not by the counts and recursions that they claim.

use super::avro::{Avro, Kind, Primitive, Type};
use crate::Reason;

/// Levels of a value.
const DEPTH_MAX: usize = 127;
/// Values that take no bytes (null, and what consists of it) are counted against this.
const EMPTY_VALUES_MAX: usize = 1 << 16;

/// Is shown the values of a datum, in their order.
pub(super) trait Sink {
    fn null(&mut self) {}
    fn boolean(&mut self, _value: bool) {}
    fn long(&mut self, _value: i64) {}
    fn float(&mut self, _value: f32) {}
    fn double(&mut self, _value: f64) {}
    fn bytes(&mut self, _value: &[u8]) {}
    fn text(&mut self, _value: &str) {}
    fn begin_list(&mut self) {}
    /// Before each item.
    fn item(&mut self) {}
    fn end_list(&mut self) {}
    fn begin_map(&mut self) {}
    /// Before each value.
    fn key(&mut self, _key: &str) {}
    fn end_map(&mut self) {}
    /// Before the value of a union, which is followed by `end_branch`.
    fn begin_branch(&mut self, _avro: &Avro, _branch: &Type) {}
    fn end_branch(&mut self, _branch: &Type) {}
    /// Whether it takes no more.
    fn is_full(&self) -> bool {
        false
    }
}

/// For those who want to know only whether it is a datum.
impl Sink for () {}

pub(crate) fn check(avro: &Avro, payload: &[u8]) -> Result<(), Reason> {
    read(avro, payload, &mut ())
}

pub(super) fn read(avro: &Avro, payload: &[u8], sink: &mut impl Sink) -> Result<(), Reason> {
    let steps = EMPTY_VALUES_MAX + 4 * payload.len();
    let mut decoder = Decoder { avro, sink, rest: payload, whole: payload.len(), steps, path: Vec::new() };
    decoder.value(&avro.root)?;
    match decoder.rest.len() {
        0 => Ok(()),
        more => Err(decoder.reason("avro", format!("{more} bytes follow the value"))),
    }
}

struct Decoder<'a, S> {
    avro: &'a Avro,
    sink: &'a mut S,
    rest: &'a [u8],
    whole: usize,
    steps: usize,
    path: Vec<String>,
}

impl<'a, S: Sink> Decoder<'a, S> {
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

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Reason> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
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
        if self.sink.is_full() {
            return Err(self.reason("size", "more than can be shown".to_owned()));
        }
        self.steps = steps;
        let avro = self.avro;
        match schema {
            Type::Primitive(primitive) => self.primitive(*primitive)?,
            Type::Array(items) => {
                self.sink.begin_list();
                self.blocks(|decoder, at| {
                    decoder.sink.item();
                    decoder.within(at.to_string(), |inner| inner.value(items))
                })?;
                self.sink.end_list();
            }
            Type::Map(values) => {
                self.sink.begin_map();
                self.blocks(|decoder, _| {
                    let key = decoder.text()?;
                    decoder.sink.key(key);
                    decoder.within(key.to_owned(), |inner| inner.value(values))
                })?;
                self.sink.end_map();
            }
            Type::Union(branches) => {
                let at = self.long()?;
                let Some(branch) = usize::try_from(at).ok().and_then(|at| branches.get(at)) else {
                    return self.broken(format!("branch {at} of a union of {}", branches.len()));
                };
                self.sink.begin_branch(avro, branch);
                self.value(branch)?;
                self.sink.end_branch(branch);
            }
            Type::Named(at) => match &avro.named[*at].kind {
                Kind::Fixed(size) => {
                    let bytes = self.take(*size)?;
                    self.sink.bytes(bytes);
                }
                Kind::Enum { symbols, .. } => {
                    let at = self.long()?;
                    match usize::try_from(at).ok().and_then(|at| symbols.get(at)) {
                        Some(symbol) => self.sink.text(symbol),
                        None => return self.broken(format!("symbol {at} of an enum of {}", symbols.len())),
                    }
                }
                Kind::Record(fields) => {
                    self.sink.begin_map();
                    for field in fields {
                        self.sink.key(&field.name);
                        self.within(field.name.clone(), |inner| inner.value(&field.schema))?;
                    }
                    self.sink.end_map();
                }
            },
        }
        Ok(())
    }

    fn primitive(&mut self, primitive: Primitive) -> Result<(), Reason> {
        match primitive {
            Primitive::Null => self.sink.null(),
            Primitive::Boolean => match self.take(1)?[0] {
                bit @ (0 | 1) => self.sink.boolean(bit == 1),
                other => return self.broken(format!("the boolean {other}")),
            },
            Primitive::Int => {
                let value = self.long()?;
                if i32::try_from(value).is_err() {
                    return self.broken(format!("{value} is no int"));
                }
                self.sink.long(value);
            }
            Primitive::Long => {
                let value = self.long()?;
                self.sink.long(value);
            }
            Primitive::Float => {
                let bytes = self.array()?;
                self.sink.float(f32::from_le_bytes(bytes));
            }
            Primitive::Double => {
                let bytes = self.array()?;
                self.sink.double(f64::from_le_bytes(bytes));
            }
            Primitive::Bytes => {
                let length = self.length()?;
                let bytes = self.take(length)?;
                self.sink.bytes(bytes);
            }
            Primitive::String => {
                let text = self.text()?;
                self.sink.text(text);
            }
        }
        Ok(())
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
