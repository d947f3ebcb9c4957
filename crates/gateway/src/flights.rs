//! Answers that are being made: whoever wants the same waits for it.

use hashbrown::HashMap;
use parking_lot::Mutex;
use tenancy::CacheKey;
use tokio::sync::watch;

/// The answers of one tenant that are being made, by their keys: no more than it has calls under way.
#[derive(Debug, Default)]
pub(crate) struct Flights(Mutex<HashMap<CacheKey, watch::Receiver<()>>>);

/// What a call has to do with an answer that is not there.
#[derive(Debug)]
pub(crate) enum Boarding {
    /// Nobody makes it: this call does. Others wait until this is dropped.
    Leads(watch::Sender<()>),
    /// Another call makes it. The channel closes when that has ended.
    Follows(watch::Receiver<()>),
}

impl Flights {
    /// Makes the answer, or waits for who makes it. Whoever leads says when it has [landed](Self::land).
    pub(crate) fn board(&self, key: CacheKey) -> Boarding {
        let mut flights = self.0.lock();
        if let Some(led) = flights.get(&key) {
            return Boarding::Follows(led.clone());
        }
        let (lead, led) = watch::channel(());
        flights.insert(key, led);
        Boarding::Leads(lead)
    }

    /// Whoever led has ended, with an answer or without.
    pub(crate) fn land(&self, key: &CacheKey) {
        self.0.lock().remove(key);
    }
}
