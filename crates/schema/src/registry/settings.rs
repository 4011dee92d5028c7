//! Compatibility levels and modes, of subjects and of all.

use super::types::{Config, Level, Mode};
use super::{Change, Decision, RegistryError, Shown, State, subject_name};

/// What is absent stays as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConfigUpdate {
    pub level: Option<Level>,
    pub normalize: Option<bool>,
}

impl State {
    /// The answer is what the subject has of its own afterwards.
    pub fn set_config(&self, subject: Option<&str>, update: ConfigUpdate) -> Result<Decision<Config>, RegistryError> {
        let subject = subject.map(subject_name).transpose()?;
        let mode = self.mode(subject);
        if mode.is_read_only() {
            let whose = subject.unwrap_or("all subjects");
            return Err(RegistryError::NotPermitted(format!("{whose} is in mode {mode}")));
        }
        let before = match subject {
            Some(subject) => self.own_config(subject).unwrap_or_default(),
            None => self.global_config,
        };
        let answer = Config { level: update.level.or(before.level), normalize: update.normalize.or(before.normalize) };
        let change = Change::Config { subject: subject.map(str::to_owned), config: Some(answer) };
        Ok(Decision { changes: vec![change], answer })
    }

    /// The answer is what it was.
    pub fn delete_config(&self, subject: Option<&str>) -> Result<Decision<Config>, RegistryError> {
        let answer = match subject {
            Some(subject) => {
                self.own_config(subject).ok_or_else(|| RegistryError::SubjectNotFound(subject.to_owned()))?
            }
            None => self.config(None),
        };
        let change = Change::Config { subject: subject.map(str::to_owned), config: None };
        Ok(Decision { changes: vec![change], answer })
    }

    /// `force` makes an import possible where there are schemas already.
    pub fn set_mode(&self, subject: Option<&str>, mode: Mode, force: bool) -> Result<Decision<Mode>, RegistryError> {
        let subject = subject.map(subject_name).transpose()?;
        let before = match subject {
            Some(subject) => self.mode(Some(subject)),
            None => self.global_mode,
        };
        if mode == Mode::Import && before != Mode::Import && !force {
            let taken = match subject {
                Some(subject) => self.has_subject(subject, Shown::All),
                None => self.subject_count() > 0,
            };
            if taken {
                let reason =
                    "there are schemas already, whose ids an import may contradict: set force=true if that is wanted";
                return Err(RegistryError::NotPermitted(reason.to_owned()));
            }
        }
        let change = Change::Mode { subject: subject.map(str::to_owned), mode: Some(mode) };
        Ok(Decision { changes: vec![change], answer: mode })
    }

    /// The answer is what it was.
    pub fn delete_mode(&self, subject: Option<&str>) -> Result<Decision<Mode>, RegistryError> {
        let answer = match subject {
            Some(subject) => {
                self.own_mode(subject).ok_or_else(|| RegistryError::SubjectNotFound(subject.to_owned()))?
            }
            None => self.global_mode,
        };
        let change = Change::Mode { subject: subject.map(str::to_owned), mode: None };
        Ok(Decision { changes: vec![change], answer })
    }
}
