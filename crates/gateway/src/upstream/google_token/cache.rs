//! One token at a time, renewed before it ends, asked for once however many need it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Redacted, Timestamp};
use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::{AccessToken, AnswerError, ExchangeError, ServiceAccount, TokenExchange};

/// 5 minutes before its end a token is renewed: longer than any call's time to its first byte,
/// and a twelfth of its life.
const RENEW_BEFORE: Duration = Duration::from_secs(300);

/// 10 s: a token that ends this soon is not sent; clocks differ.
const UNUSABLE_BEFORE: Duration = Duration::from_secs(10);

/// After a failure the endpoint is left alone: 1 s, doubled each time, at most a minute.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// The tokens of one service account for one scope.
pub struct GoogleTokens {
    account: ServiceAccount,
    scope: String,
    clock: Arc<dyn Clock>,
    exchange: Arc<dyn TokenExchange>,
    state: Mutex<State>,
    /// Held by whoever asks for a new token.
    asking: tokio::sync::Mutex<()>,
}

/// Why there is no token.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TokenError {
    /// No answer came.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// An answer without a token came.
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

/// What is known at one time.
#[derive(Debug, Default)]
struct State {
    token: Option<AccessToken>,
    failure: Option<Failure>,
}

/// The last exchange, if it failed.
#[derive(Debug, Clone)]
struct Failure {
    error: TokenError,
    pause: Duration,
    /// The endpoint is not asked before.
    retry: Timestamp,
}

/// What to do about a token.
#[derive(Debug)]
enum Step {
    /// Use it.
    Use(AccessToken),
    /// Use it, and renew it if nobody does so already.
    Renew(AccessToken),
    /// There is none that could be used.
    Ask,
    /// There is none, and asking failed just now.
    Fail(TokenError),
}

impl State {
    fn step(&self, now: Timestamp) -> Step {
        let pausing = self.failure.as_ref().filter(|failure| now < failure.retry);
        let usable = self.token.as_ref().filter(|token| {
            let end = token.expires.minus(UNUSABLE_BEFORE);
            now < end
        });
        match (usable, pausing) {
            (Some(token), None) if now >= token.expires.minus(RENEW_BEFORE) => {
                Step::Renew(token.clone())
            }
            (Some(token), _) => Step::Use(token.clone()),
            (None, Some(failure)) => Step::Fail(failure.error.clone()),
            (None, None) => Step::Ask,
        }
    }

    fn succeeded(&mut self, token: AccessToken) {
        self.token = Some(token);
        self.failure = None;
    }

    fn failed(&mut self, error: TokenError, now: Timestamp) {
        let pause = match &self.failure {
            Some(last) => (last.pause * 2).min(PAUSE_MAX),
            None => PAUSE_MIN,
        };
        self.failure = Some(Failure {
            error,
            pause,
            retry: now.plus(pause),
        });
    }
}

impl GoogleTokens {
    /// Tokens of `account` for `scope`; none is asked for yet.
    pub fn new(
        account: ServiceAccount,
        scope: &str,
        clock: Arc<dyn Clock>,
        exchange: Arc<dyn TokenExchange>,
    ) -> Self {
        Self {
            account,
            scope: scope.to_owned(),
            clock,
            exchange,
            state: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        }
    }

    /// A token that is good for 10 seconds at least. Near the token's end one caller renews it;
    /// the others go on with the old one.
    ///
    /// # Errors
    /// There is none, and the endpoint gives none; it is left alone for a second to a minute then.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the asking to the next caller.
    pub async fn token(&self) -> Result<Redacted<Zeroizing<String>>, TokenError> {
        match self.step() {
            Step::Use(token) => return Ok(token.token),
            Step::Fail(error) => return Err(error),
            Step::Renew(token) => {
                let Ok(_asking) = self.asking.try_lock() else {
                    return Ok(token.token);
                };
                // The old one serves if renewing fails.
                return Ok(self
                    .ask()
                    .await
                    .map_or(token.token, |renewed| renewed.token));
            }
            Step::Ask => {}
        }
        let _asking = self.asking.lock().await;
        // Whoever asked before us may have been answered.
        match self.step() {
            Step::Use(token) | Step::Renew(token) => Ok(token.token),
            Step::Fail(error) => Err(error),
            Step::Ask => Ok(self.ask().await?.token),
        }
    }

    /// Forgets a token that Vertex refused (401), unless a newer one came since.
    pub fn refused(&self, token: &Redacted<Zeroizing<String>>) {
        let mut state = self.state.lock();
        if state
            .token
            .as_ref()
            .is_some_and(|kept| kept.token == *token)
        {
            state.token = None;
        }
    }

    fn step(&self) -> Step {
        self.state.lock().step(self.clock.now())
    }

    async fn ask(&self) -> Result<AccessToken, TokenError> {
        let asked = self.clock.now();
        let request = self.account.request(&self.scope, asked);
        let answer = self.exchange.exchange(&request).await;
        let token = answer
            .map_err(TokenError::from)
            .and_then(|answer| AccessToken::from_answer(&answer, asked).map_err(TokenError::from));
        let mut state = self.state.lock();
        match &token {
            Ok(token) => state.succeeded(token.clone()),
            Err(error) => state.failed(error.clone(), self.clock.now()),
        }
        token
    }
}

impl fmt::Debug for GoogleTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GoogleTokens({})", self.account.client_email)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use base::ManualClock;

    use super::super::{ExchangeAnswer, ExchangeFuture, TokenRequest};
    use super::*;

    /// Gives `token-1`, `token-2`, … for an hour each, as long as `status` is 200.
    #[derive(Debug)]
    struct Endpoint {
        asked: AtomicU32,
        status: Mutex<u16>,
    }

    impl TokenExchange for Endpoint {
        fn exchange<'a>(&'a self, _: &'a TokenRequest) -> ExchangeFuture<'a> {
            Box::pin(async {
                let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
                tokio::task::yield_now().await;
                let body = format!(
                    r#"{{"access_token":"token-{number}","expires_in":3600,"token_type":"Bearer"}}"#
                );
                Ok(ExchangeAnswer {
                    status: *self.status.lock(),
                    body: Redacted::new(Zeroizing::new(body.into_bytes())),
                })
            })
        }
    }

    struct Setup {
        clock: Arc<ManualClock>,
        endpoint: Arc<Endpoint>,
        tokens: GoogleTokens,
    }

    fn setup() -> Setup {
        let file = include_str!("../testdata/google_service_account.json");
        let account = ServiceAccount::from_json(file).unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_micros(
            1_700_000_000_000_000,
        )));
        let endpoint = Arc::new(Endpoint {
            asked: AtomicU32::new(0),
            status: Mutex::new(200),
        });
        let tokens = GoogleTokens::new(account, "scope", clock.clone(), endpoint.clone());
        Setup {
            clock,
            endpoint,
            tokens,
        }
    }

    impl Setup {
        async fn check(&self, token: &str) {
            let given = self.tokens.token().await.unwrap();
            assert_eq!(given.expose().as_str(), token);
        }

        async fn check_fails(&self) {
            assert!(self.tokens.token().await.is_err());
        }

        fn asked(&self) -> u32 {
            self.endpoint.asked.load(Ordering::SeqCst)
        }

        fn wait_s(&self, seconds: u64) {
            self.clock.advance(Duration::from_secs(seconds));
        }

        fn answer_with(&self, status: u16) {
            *self.endpoint.status.lock() = status;
        }
    }

    #[tokio::test]
    async fn a_token_is_kept_and_renewed_before_its_end() {
        let setup = setup();
        setup.check("token-1").await;
        setup.wait_s(3299);
        setup.check("token-1").await;
        setup.wait_s(1);
        setup.check("token-2").await;
        setup.wait_s(7200);
        setup.check("token-3").await;
        assert_eq!(setup.asked(), 3);
    }

    #[tokio::test]
    async fn many_ask_once() {
        let setup = setup();
        let tokens = &setup.tokens;
        let (a, b, c) = tokio::join!(tokens.token(), tokens.token(), tokens.token());
        assert_eq!((a.unwrap(), c.unwrap()), (b.clone().unwrap(), b.unwrap()));
        assert_eq!(setup.asked(), 1);
        setup.wait_s(3400);
        let (renewed, old) = tokio::join!(tokens.token(), tokens.token());
        assert_eq!(renewed.unwrap().expose().as_str(), "token-2");
        assert_eq!(old.unwrap().expose().as_str(), "token-1");
        assert_eq!(setup.asked(), 2);
    }

    #[tokio::test]
    async fn an_old_token_serves_while_the_endpoint_is_down() {
        let setup = setup();
        setup.check("token-1").await;
        setup.answer_with(503);
        setup.wait_s(3400);
        for _ in 0..5 {
            setup.check("token-1").await;
        }
        assert_eq!(setup.asked(), 2, "it is left alone after a failure");
        setup.wait_s(1);
        setup.check("token-1").await;
        assert_eq!(setup.asked(), 3);
        setup.wait_s(190);
        setup.check_fails().await;
    }

    #[tokio::test]
    async fn failures_are_spaced_out_and_forgotten_at_success() {
        let setup = setup();
        setup.answer_with(400);
        let mut asked = 0;
        for pause_s in [1, 2, 4, 8, 16, 32, 60, 60] {
            setup.check_fails().await;
            asked += 1;
            setup.wait_s(pause_s - 1);
            setup.check_fails().await;
            assert_eq!(setup.asked(), asked);
            setup.wait_s(1);
        }
        setup.answer_with(200);
        setup.check("token-9").await;
    }

    #[tokio::test]
    async fn a_refused_token_is_not_used_again() {
        let setup = setup();
        let first = setup.tokens.token().await.unwrap();
        setup.tokens.refused(&first);
        setup.check("token-2").await;
        setup.tokens.refused(&first);
        setup.check("token-2").await;
        assert_eq!(setup.asked(), 2);
    }
}
