//! Faults that a call asks for: `status=429;retry-after=2,delay=500ms`.
//!
//! They come in the header `x-sim-fault`, or as `[[fault:…]]` in the last user message, which
//! also gets through a gateway that drops headers. A fault that is misspelt is refused, so that no
//! test passes because its fault never happened.

use std::time::Duration;

use http::StatusCode;

use crate::refusal::Refusal;

/// What shall go wrong with one call. Several faults combine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Faults {
    /// `status=429;retry-after=2`: refuse with this status.
    pub(crate) status: Option<FaultStatus>,
    /// `delay=500ms`: wait so long before the first byte, in the slot.
    pub(crate) delay: Option<Duration>,
    /// What becomes of the answer itself.
    pub(crate) spoil: Option<Spoil>,
    /// `overloaded`: refuse as this provider does when it has too much to do.
    pub(crate) load: Load,
    /// `nousage`: leave `usage` out.
    pub(crate) usage: UsageReport,
    /// `overrun=100`: tokens to answer beyond the request's maximum.
    pub(crate) overrun_tokens: u32,
}

/// A refusal that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FaultStatus {
    status: StatusCode,
    retry_after_seconds: Option<u32>,
}

/// How an answer goes bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoil {
    /// `hang`: it never comes.
    Hang,
    /// `cut=5`: the connection closes after so many frames; without a stream, in mid-body.
    Cut(usize),
    /// `garbage`: what comes is no JSON.
    Garbage,
    /// `error=5`: after so many frames comes an error frame; without a stream, a 500.
    Error(usize),
}

/// Whether an answer says what it used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum UsageReport {
    /// Where the protocol has it.
    #[default]
    Given,
    /// Never.
    Omitted,
}

/// Whether the provider claims to have too much to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Load {
    #[default]
    Bearable,
    Overloaded,
}

/// A delay stays below this: ten minutes, as long as the patience of the most patient client.
const DELAY_MAX: Duration = Duration::from_secs(600);

impl Faults {
    /// Adds the faults of `text`: `name=value;option=value`, separated by commas.
    ///
    /// # Errors
    ///
    /// A fault that does not exist, or a value that makes no sense.
    pub(crate) fn add(&mut self, text: &str) -> Result<(), Refusal> {
        for fault in text.split(',').map(str::trim) {
            self.add_one(fault)
                .ok_or_else(|| misspelt(&fault.chars().take(100).collect::<String>()))?;
        }
        Ok(())
    }

    fn add_one(&mut self, fault: &str) -> Option<()> {
        let (head, option) = match fault.split_once(';') {
            Some((head, option)) => (head, Some(option)),
            None => (fault, None),
        };
        let (name, value) = match head.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (head, None),
        };
        match (name, value, option) {
            ("status", Some(value), option) => self.status = Some(read_status(value, option)?),
            ("delay", Some(value), None) => self.delay = Some(read_delay(value)?),
            ("hang", None, None) => self.spoil = Some(Spoil::Hang),
            ("cut", Some(value), None) => self.spoil = Some(Spoil::Cut(value.parse().ok()?)),
            ("garbage", None, None) => self.spoil = Some(Spoil::Garbage),
            ("error", Some(value), None) => self.spoil = Some(Spoil::Error(value.parse().ok()?)),
            ("overloaded", None, None) => self.load = Load::Overloaded,
            ("nousage", None, None) => self.usage = UsageReport::Omitted,
            ("overrun", Some(value), None) => self.overrun_tokens = value.parse().ok()?,
            _ => return None,
        }
        Some(())
    }
}

impl From<FaultStatus> for Refusal {
    fn from(fault: FaultStatus) -> Self {
        Self {
            retry_after_seconds: fault.retry_after_seconds,
            ..Self::new(fault.status, "The simulator fails, as this request asked.")
        }
    }
}

fn read_status(value: &str, option: Option<&str>) -> Option<FaultStatus> {
    let status = StatusCode::from_bytes(value.as_bytes())
        .ok()
        .filter(|status| status.is_client_error() || status.is_server_error())?;
    let retry_after_seconds = match option {
        Some(option) => Some(option.strip_prefix("retry-after=")?.parse().ok()?),
        None => None,
    };
    Some(FaultStatus {
        status,
        retry_after_seconds,
    })
}

fn read_delay(value: &str) -> Option<Duration> {
    let delay = match (value.strip_suffix("ms"), value.strip_suffix('s')) {
        (Some(millis), _) => Duration::from_millis(millis.parse().ok()?),
        (None, Some(seconds)) => Duration::from_secs(seconds.parse().ok()?),
        (None, None) => return None,
    };
    (delay <= DELAY_MAX).then_some(delay)
}

fn misspelt(fault: &str) -> Refusal {
    Refusal::bad_request(format!(
        "`{fault}` is no fault: write status=429 or status=429;retry-after=2, delay=500ms \
         (up to 600s), hang, cut=5, garbage, error=5, overloaded, nousage, overrun=100"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Faults, Refusal> {
        let mut faults = Faults::default();
        faults.add(text).map(|()| faults)
    }

    #[test]
    fn faults_combine() {
        let faults = read("status=429;retry-after=2, delay=500ms,nousage").unwrap();
        let refusal = Refusal::from(faults.status.unwrap());
        assert_eq!(refusal.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(refusal.retry_after_seconds, Some(2));
        assert_eq!(faults.delay, Some(Duration::from_millis(500)));
        assert_eq!(faults.usage, UsageReport::Omitted);
        assert_eq!(read("error=0").unwrap().spoil, Some(Spoil::Error(0)));
        assert_eq!(
            read("delay=3s").unwrap().delay,
            Some(Duration::from_secs(3))
        );
    }

    #[test]
    fn a_misspelt_fault_is_refused() {
        for text in [
            "",
            "stats=429",
            "status=200",
            "status=abc",
            "delay=5",
            "delay=601s",
            "hang=1",
            "cut",
            "cut=-1",
            "status=429;after=2",
            "garbage;x",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
