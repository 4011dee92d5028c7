//! Values that are nested too deep are read over, so that their neighbours are found.

use super::Scanner;

impl Scanner<'_> {
    /// Reads over a value that is nested too deep, without recursion: one byte per level, at most as many as the input.
    #[cold]
    pub(super) fn too_deep(&mut self) -> Option<()> {
        self.flaw("depth", self.at, &format!("nested deeper than {} levels", self.max_depth));
        let mut open = Vec::new();
        loop {
            // A value.
            match self.next() {
                Some(bracket @ (b'{' | b'[')) => {
                    self.at += 1;
                    if self.next() != Some(bracket + 2) {
                        open.push(bracket);
                        if bracket == b'{' {
                            self.key_and_colon()?;
                        }
                        continue;
                    }
                    self.at += 1;
                }
                Some(b'"') => self.string().map(|_| ())?,
                Some(b'-' | b'0'..=b'9') => self.number().map(|_| ())?,
                _ => self.literal()?,
            }
            // What may follow it.
            loop {
                let Some(bracket) = open.last().copied() else { return Some(()) };
                match self.next() {
                    Some(b',') => {
                        self.at += 1;
                        if bracket == b'{' {
                            self.key_and_colon()?;
                        }
                        break;
                    }
                    Some(close) if close == bracket + 2 => {
                        self.at += 1;
                        open.pop();
                    }
                    _ => return self.broken("\",\" or a closing bracket expected"),
                }
            }
        }
    }

    fn key_and_colon(&mut self) -> Option<()> {
        if self.next() != Some(b'"') {
            return self.broken("a key in double quotes expected");
        }
        self.string()?;
        self.colon()
    }
}
