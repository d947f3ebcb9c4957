//! Signing in by an identity provider: a whole one, with keys of its own, and everything that
//! somebody could try with it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{AUTHORIZATION, COOKIE};
use axum::http::{Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair,
};
use serde_json::{Value, json};

use super::dashboard::Seen;
use super::{House, NOW};
use crate::{OidcOptions, OidcRole, OidcRule, WebAnswer, WebRequest};

const ISSUER: &str = "https://id.example/realm";
const SECRET: &str = "s3cr&t";

pub(super) fn options() -> OidcOptions {
    let rule = |claim: &str, value: Option<&str>, role| OidcRule {
        claim: claim.to_owned(),
        value: value.map(str::to_owned),
        role,
    };
    OidcOptions {
        issuer: ISSUER.to_owned(),
        client_id: "partywall".to_owned(),
        client_secret: Some(Arc::new(SECRET.to_owned().into())),
        scopes: vec!["openid".to_owned(), "email".to_owned()],
        redirect_url: "https://pw.example/dashboard/oidc/back".to_owned(),
        rules: vec![
            rule("groups", Some("platform"), OidcRole::Operator),
            rule("groups", Some("revision"), OidcRole::Auditor),
            rule(
                "groups",
                Some("acme"),
                OidcRole::TenantAdmin("acme".parse().unwrap()),
            ),
            rule("org", None, OidcRole::TenantAdminOf("org".to_owned())),
        ],
        word_counts: Duration::from_secs(1_800),
    }
}

/// A provider: what it was asked, and what it says next.
#[derive(Clone)]
struct Provider {
    key: Arc<Ed25519KeyPair>,
    /// Its other keys.
    curve: Arc<EcdsaKeyPair>,
    rsa: Arc<RsaKeyPair>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What the ID token says beyond the usual; `null` takes a claim away.
    claims: Value,
    /// In place of the token that it would give.
    token: Option<String>,
    /// The challenge and nonce of the sign-in under way.
    challenge: String,
    nonce: String,
    /// Codes that are good once.
    codes: Vec<String>,
    asked: Vec<String>,
}

impl Provider {
    fn at(house: &House) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
        let pkcs8 = pkcs8.unwrap();
        let curve =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random);
        let provider = Self {
            key: Arc::new(Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()),
            curve: Arc::new(curve.unwrap()),
            rsa: Arc::new(rsa_key()),
            state: Arc::default(),
        };
        let answering = provider.clone();
        *house.rest.services.lock() = Some(Box::new(move |request| answering.answer(&request)));
        provider
    }

    fn answer(&self, request: &WebRequest) -> WebAnswer {
        let path = request.url.strip_prefix("https://id.example").unwrap();
        self.state.lock().asked.push(path.to_owned());
        let said = match path {
            "/realm/.well-known/openid-configuration" => json!({
                "issuer": ISSUER,
                "authorization_endpoint": "https://id.example/authorize?tenant=1",
                "token_endpoint": "https://id.example/token",
                "jwks_uri": "https://id.example/jwks",
                "end_session_endpoint": "https://id.example/end",
            }),
            "/jwks" => self.jwks(),
            "/token" => return self.tokens(request),
            _ => panic!("{path}"),
        };
        answered(StatusCode::OK, &said)
    }

    fn jwks(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.key.public_key());
        let point = self.curve.public_key().as_ref();
        let (px, py) = (&point[1..33], &point[33..]);
        // RFC 8017's RSAPublicKey of 2,048 bits: two headers, the modulus, a header, the exponent.
        let rsa = self.rsa.public_key().as_ref();
        let (modulus, exponent) = (&rsa[9..265], &rsa[267..270]);
        json!({"keys": [
            {"kty": "RSA", "kid": "three", "alg": "RS256", "use": "sig",
             "n": URL_SAFE_NO_PAD.encode(modulus), "e": URL_SAFE_NO_PAD.encode(exponent)},
            {"kty": "OKP", "crv": "Ed25519", "kid": "one", "use": "sig", "x": x},
            {"kty": "EC", "crv": "P-256", "kid": "two",
             "x": URL_SAFE_NO_PAD.encode(px), "y": URL_SAFE_NO_PAD.encode(py)},
            {"kty": "oct", "kid": "shared", "k": "AAAA"},
        ]})
    }

    /// Gives the token for a good code, once, to who proves that it began the sign-in.
    fn tokens(&self, request: &WebRequest) -> WebAnswer {
        let form: Vec<(String, String)> = url::form_urlencoded::parse(&request.body)
            .into_owned()
            .collect();
        let field = |name: &str| {
            let found = form.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let basic = format!("Basic {}", STANDARD.encode("partywall:s3cr%26t"));
        assert_eq!(request.headers[AUTHORIZATION], basic.as_str());
        assert_eq!(field("grant_type"), "authorization_code");
        assert_eq!(
            field("redirect_uri"),
            "https://pw.example/dashboard/oidc/back"
        );
        let mut state = self.state.lock();
        let proof = URL_SAFE_NO_PAD.encode(digest(&SHA256, field("code_verifier").as_bytes()));
        let known = state.codes.iter().position(|code| *code == field("code"));
        let Some(known) = known.filter(|_| proof == state.challenge) else {
            return answered(StatusCode::BAD_REQUEST, &json!({"error": "invalid_grant"}));
        };
        state.codes.remove(known);
        let given = state.token.clone();
        drop(state);
        let token = given.unwrap_or_else(|| self.token());
        answered(
            StatusCode::OK,
            &json!({"id_token": token, "token_type": "Bearer"}),
        )
    }

    fn claims(&self) -> Value {
        let state = self.state.lock();
        let now = NOW.as_micros() / 1_000_000;
        let mut claims = json!({
            "iss": ISSUER, "aud": "partywall", "sub": "4711", "email": "ada@acme.example",
            "exp": now + 300, "iat": now, "nonce": state.nonce,
        });
        if let Value::Object(more) = &state.claims {
            for (name, value) in more {
                claims[name] = value.clone();
            }
        }
        claims
    }

    /// The token that it gives.
    fn token(&self) -> String {
        self.signed(&json!({"alg": "EdDSA", "kid": "one"}), &self.claims())
    }

    fn signed(&self, header: &Value, claims: &Value) -> String {
        let said = unsigned(header, claims);
        let signature = self.key.sign(said.as_bytes());
        format!("{said}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn says(&self, claims: Value) {
        self.state.lock().claims = claims;
    }

    /// A person signs in there: the code that comes back.
    fn code_for(&self, authorization: &str) -> (String, String) {
        let url = url::Url::parse(authorization).unwrap();
        let query = |name: &str| {
            let found = url.query_pairs().find(|(key, _)| key == name);
            found.unwrap_or_else(|| panic!("no {name}")).1.into_owned()
        };
        assert!(authorization.starts_with("https://id.example/authorize?tenant=1&"));
        assert_eq!(query("response_type"), "code");
        assert_eq!(query("client_id"), "partywall");
        assert_eq!(query("scope"), "openid email");
        assert_eq!(query("code_challenge_method"), "S256");
        let mut state = self.state.lock();
        state.challenge = query("code_challenge");
        state.nonce = query("nonce");
        let code = format!("code-{}", state.asked.len());
        state.codes.push(code.clone());
        (code, query("state"))
    }
}

/// The key that Vertex's tests sign with: it is nobody's.
fn rsa_key() -> RsaKeyPair {
    let file = include_str!("../../../gateway/src/upstream/testdata/google_service_account.json");
    let file: Value = serde_json::from_str(file).unwrap();
    let pem = file["private_key"].as_str().unwrap();
    let lines = pem.lines().filter(|line| !line.starts_with("-----"));
    let der = STANDARD.decode(lines.collect::<String>()).unwrap();
    RsaKeyPair::from_pkcs8(&der).unwrap()
}

fn unsigned(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", encode(header), encode(claims))
}

fn answered(status: StatusCode, said: &Value) -> WebAnswer {
    WebAnswer {
        status,
        body: Bytes::from(said.to_string()),
    }
}

impl House {
    async fn with_flow(&self, path: &str, flow: &str) -> Seen {
        let request = Request::builder()
            .uri(path)
            .header(COOKIE, format!("partywall_oidc={flow}"))
            .body(Body::empty())
            .unwrap();
        self.look(request).await
    }

    /// Goes to the provider: the cookie, the code and the state.
    async fn begin(&self, provider: &Provider) -> (String, String, String) {
        let seen = self
            .browse("/dashboard/oidc/start?next=/dashboard/alerts", None)
            .await;
        assert_eq!(seen.status, 303, "{}", seen.text);
        let (code, state) = provider.code_for(seen.location());
        (seen.cookie("partywall_oidc").unwrap(), code, state)
    }

    /// The whole way; what the browser gets when it comes back.
    async fn come_in(&self, provider: &Provider) -> Seen {
        let (flow, code, state) = self.begin(provider).await;
        self.with_flow(&back(&code, &state), &flow).await
    }
}

fn back(code: &str, state: &str) -> String {
    format!("/dashboard/oidc/back?code={code}&state={state}")
}

/// Asserts that somebody was not let in.
fn stays_out(seen: &Seen, what: &str) {
    assert!(
        seen.cookie("partywall_session").is_none(),
        "{what}: {}",
        seen.text
    );
    assert!(
        seen.status.is_client_error() || seen.status == 502,
        "{what}"
    );
}

#[tokio::test]
async fn a_person_comes_in_as_what_the_rules_say_and_no_more() {
    let house = House::new().await;
    let acme_key = house.onboard("acme").await;
    house.onboard("globex").await;
    let provider = Provider::at(&house);
    for (claims, role, opens, closed) in [
        (
            json!({"groups": ["x", "platform"]}),
            "operator",
            "/dashboard/fleet",
            None,
        ),
        (
            json!({"groups": "revision"}),
            "auditor",
            "/dashboard/fleet",
            Some("/dashboard/tenants"),
        ),
        (
            json!({"groups": ["acme"]}),
            "tenant-admin",
            "/dashboard/tenants/acme",
            Some("/dashboard/tenants/globex"),
        ),
        // The first rule that fits counts: this one's own tenant is not asked for.
        (
            json!({"groups": ["acme"], "org": "globex"}),
            "tenant-admin",
            "/dashboard/tenants/acme",
            Some("/dashboard/tenants/globex"),
        ),
        (
            json!({"org": "globex"}),
            "tenant-admin",
            "/dashboard/tenants/globex",
            Some("/dashboard/tenants/acme/keys"),
        ),
    ] {
        provider.says(claims.clone());
        let seen = house.come_in(&provider).await;
        assert_eq!(seen.status, 303, "{claims}: {}", seen.text);
        assert_eq!(seen.location(), "/dashboard/alerts");
        let session = seen.cookie("partywall_session").unwrap();
        let page = house.browse(opens, Some(&session)).await;
        assert_eq!(page.status, 200, "{claims}: {}", page.text);
        assert!(page.text.contains(&format!("title=\"{role}\"")), "{claims}");
        assert!(page.text.contains("sso.ada-acme.example-"), "{claims}");
        if let Some(closed) = closed {
            let page = house.browse(closed, Some(&session)).await;
            assert!(
                [403, 404].contains(&page.status.as_u16()),
                "{claims}: {}",
                page.text
            );
        }
    }
    for nobody in [
        json!({}),
        json!({"groups": ["platforms", "Platform"]}),
        json!({"org": "nowhere"}),
        json!({"org": ["acme", "globex"]}),
        json!({"org": "../acme"}),
        json!({"partywall_role": "operator", "tenant": "acme"}),
    ] {
        provider.says(nobody.clone());
        stays_out(&house.come_in(&provider).await, &nobody.to_string());
    }
    // What a tenant's own person does is on the tenant's record, by name.
    provider.says(json!({"groups": ["acme"]}));
    let seen = house.come_in(&provider).await;
    let session = seen.cookie("partywall_session").unwrap();
    let form = "name=made&role=service";
    let made = house
        .press("/dashboard/tenants/acme/keys", &session, form)
        .await;
    assert!(
        made.status.is_success() || made.status == 303,
        "{}",
        made.text
    );
    let log = house.call(
        &acme_key,
        axum::http::Method::GET,
        "/admin/v1/tenants/acme/audit",
        Value::Null,
    );
    let log = log.await.text;
    assert!(log.contains("key:acme/sso.ada-acme.example-"), "{log}");
}

#[tokio::test]
async fn what_the_provider_did_not_sign_for_this_sign_in_opens_nothing() {
    let house = House::new().await;
    house.onboard("acme").await;
    let provider = Provider::at(&house);
    let now = NOW.as_micros() / 1_000_000;
    provider.says(json!({"groups": ["platform"]}));
    for (claim, value) in [
        ("aud", json!("another")),
        ("aud", json!(["another"])),
        ("aud", json!(["partywall", "another"])),
        ("azp", json!("another")),
        ("aud", Value::Null),
        ("iss", json!("https://id.example")),
        ("iss", json!("https://evil.example")),
        ("nonce", json!("forged")),
        ("nonce", Value::Null),
        ("exp", json!(now - 61)),
        ("exp", Value::Null),
        ("iat", json!(now + 120)),
        ("nbf", json!(now + 120)),
        ("sub", json!("")),
    ] {
        provider.says(json!({"groups": ["platform"], claim: value}));
        stays_out(
            &house.come_in(&provider).await,
            &format!("{claim}: {value}"),
        );
    }
    provider.says(json!({"groups": ["platform"]}));
    let other = Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap();
    type Forge<'f> = &'f dyn Fn(&Provider) -> String;
    let forge_none: Forge = &|it| format!("{}.", unsigned(&json!({"alg": "none"}), &it.claims()));
    let unsigned_eddsa: Forge = &|it| {
        format!(
            "{}.",
            unsigned(&json!({"alg": "EdDSA", "kid": "one"}), &it.claims())
        )
    };
    // The public key as a shared secret.
    let as_secret: Forge = &|it| {
        let said = unsigned(&json!({"alg": "HS256", "kid": "one"}), &it.claims());
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, it.key.public_key().as_ref());
        let tag = ring::hmac::sign(&key, said.as_bytes());
        format!("{said}.{}", URL_SAFE_NO_PAD.encode(tag))
    };
    let others_key: Forge = &|it| {
        let said = unsigned(&json!({"alg": "EdDSA", "kid": "one"}), &it.claims());
        format!(
            "{said}.{}",
            URL_SAFE_NO_PAD.encode(other.sign(said.as_bytes()))
        )
    };
    let wrong_key: Forge = &|it| it.signed(&json!({"alg": "EdDSA", "kid": "two"}), &it.claims());
    let unknown_key: Forge = &|it| it.signed(&json!({"alg": "EdDSA", "kid": "x"}), &it.claims());
    let wrong_alg: Forge = &|it| it.signed(&json!({"alg": "RS256", "kid": "one"}), &it.claims());
    let critical: Forge = &|it| {
        it.signed(
            &json!({"alg": "EdDSA", "kid": "one", "crit": ["x"]}),
            &it.claims(),
        )
    };
    let swapped: Forge = &|it| {
        let good = it.token();
        let mut claims = it.claims();
        claims["sub"] = json!("root");
        let said = unsigned(&json!({"alg": "EdDSA", "kid": "one"}), &claims);
        format!("{said}.{}", good.rsplit_once('.').unwrap().1)
    };
    for (what, forge) in [
        ("alg none", forge_none),
        ("no signature", unsigned_eddsa),
        ("HS256 by the public key", as_secret),
        ("another's key", others_key),
        ("the id of another key", wrong_key),
        ("an unknown key", unknown_key),
        ("another algorithm", wrong_alg),
        ("a critical header", critical),
        ("another's claims", swapped),
        ("nonsense", &|_| "a.b.c".to_owned()),
        ("too long", &|it| it.token() + &"a".repeat(40_000)),
    ] {
        let (flow, code, state) = house.begin(&provider).await;
        let forged = forge(&provider);
        provider.state.lock().token = Some(forged);
        let seen = house.with_flow(&back(&code, &state), &flow).await;
        stays_out(&seen, what);
        provider.state.lock().token = None;
    }
    // The RSA key, by its own algorithm, is good; and nothing else that it signs.
    for (alg, is_good) in [("PS256", false), ("RS256", true)] {
        let (flow, code, state) = house.begin(&provider).await;
        let said = unsigned(&json!({"alg": alg, "kid": "three"}), &provider.claims());
        let mut signature = vec![0; provider.rsa.public().modulus_len()];
        let random = SystemRandom::new();
        let padding = &ring::signature::RSA_PKCS1_SHA256;
        let signed = provider
            .rsa
            .sign(padding, &random, said.as_bytes(), &mut signature);
        signed.unwrap();
        let token = format!("{said}.{}", URL_SAFE_NO_PAD.encode(signature));
        provider.state.lock().token = Some(token);
        let seen = house.with_flow(&back(&code, &state), &flow).await;
        let is_in = seen.cookie("partywall_session").is_some();
        assert_eq!(is_in, is_good, "{alg}: {}", seen.text);
        provider.state.lock().token = None;
    }
    // The other key, by its own algorithm, is good.
    let (flow, code, state) = house.begin(&provider).await;
    let said = unsigned(&json!({"alg": "ES256", "kid": "two"}), &provider.claims());
    let signature = provider
        .curve
        .sign(&SystemRandom::new(), said.as_bytes())
        .unwrap();
    let token = format!("{said}.{}", URL_SAFE_NO_PAD.encode(signature));
    provider.state.lock().token = Some(token);
    let seen = house.with_flow(&back(&code, &state), &flow).await;
    assert!(seen.cookie("partywall_session").is_some(), "{}", seen.text);
}

#[tokio::test]
async fn what_comes_back_is_of_this_browser_and_counts_once() {
    let house = House::new().await;
    let provider = Provider::at(&house);
    provider.says(json!({"groups": ["platform"]}));
    let (flow, code, state) = house.begin(&provider).await;
    let (others_flow, others_code, others_state) = house.begin(&provider).await;
    let asked = provider.state.lock().asked.len();
    // Somebody is made to go on with another's sign-in, or with none.
    let (until, rest) = state.split_once('.').unwrap();
    let later = format!("{}.{rest}", until.parse::<u64>().unwrap() + 1);
    for (path, cookie) in [
        (back(&code, &state), others_flow.as_str()),
        (back(&code, &others_state), flow.as_str()),
        (back(&code, &later), flow.as_str()),
        (back(&code, &format!("{state}AA")), flow.as_str()),
        (back(&code, ""), flow.as_str()),
        (back(&code, "a.b.c"), flow.as_str()),
        (back(&code, &state), "short"),
        ("/dashboard/oidc/back".to_owned(), flow.as_str()),
    ] {
        stays_out(&house.with_flow(&path, cookie).await, &path);
    }
    stays_out(&house.browse(&back(&code, &state), None).await, "no cookie");
    assert_eq!(
        provider.state.lock().asked.len(),
        asked,
        "nobody asked for a token"
    );
    let mixed = format!(
        "{}&iss=https://evil.example",
        back(&others_code, &others_state)
    );
    stays_out(
        &house.with_flow(&mixed, &others_flow).await,
        "another issuer",
    );
    let (denied, _, denied_state) = house.begin(&provider).await;
    let told = format!("/dashboard/oidc/back?error=access_denied&state={denied_state}");
    stays_out(&house.with_flow(&told, &denied).await, "denied");

    // The last sign-in that was begun: the provider knows its challenge.
    let (flow, code, state) = house.begin(&provider).await;
    let seen = house.with_flow(&back(&code, &state), &flow).await;
    assert!(seen.cookie("partywall_session").is_some(), "{}", seen.text);
    // Replayed, even if the provider took the code again.
    provider.state.lock().codes.push(code.clone());
    stays_out(
        &house.with_flow(&back(&code, &state), &flow).await,
        "replayed",
    );
    // A code that the provider used up.
    let (flow, _, state) = house.begin(&provider).await;
    stays_out(
        &house.with_flow(&back("code-0", &state), &flow).await,
        "a used code",
    );
    // Too late.
    let (flow, code, state) = house.begin(&provider).await;
    house.clock.advance(Duration::from_secs(601));
    // It is the sign-in that is too old, and not the token.
    let now = house.control.clock.now().as_seconds();
    provider.says(json!({"groups": ["platform"], "exp": now + 300}));
    stays_out(
        &house.with_flow(&back(&code, &state), &flow).await,
        "too late",
    );
}

/// Attack: somebody was removed at the provider, and goes on with what it once said.
#[tokio::test]
async fn a_providers_word_counts_for_its_time_however_busy_one_is() {
    let house = House::new().await;
    house.onboard("acme").await;
    let provider = Provider::at(&house);
    provider.says(json!({"org": "acme"}));
    let seen = house.come_in(&provider).await;
    let session = seen.cookie("partywall_session").unwrap();
    let home = "/dashboard/tenants/acme";
    for _ in 0..2 {
        house.clock.advance(Duration::from_secs(890));
        assert_eq!(house.browse(home, Some(&session)).await.status, 200);
    }
    house.clock.advance(Duration::from_secs(30));
    let out = house.browse(home, Some(&session)).await;
    assert_eq!(out.status, 303, "half an hour is over");
}

#[tokio::test]
async fn a_session_ends_and_its_word_is_good_nowhere_else() {
    let house = House::new().await;
    house.onboard("acme").await;
    let provider = Provider::at(&house);
    provider.says(json!({"org": "acme"}));
    let seen = house.come_in(&provider).await;
    let session = seen.cookie("partywall_session").unwrap();
    let home = "/dashboard/tenants/acme";
    assert_eq!(house.browse(home, Some(&session)).await.status, 200);
    // A word that somebody else made up.
    let entropy = base::SeededEntropy::new(1);
    let forged = tenancy::VouchingKey::generate(&entropy).seal(&tenancy::Vouched {
        name: "sso.ada".parse().unwrap(),
        role: tenancy::VouchedRole::Operator,
        until: NOW.plus(Duration::from_secs(60)),
    });
    let refused = house.call(
        &forged,
        axum::http::Method::GET,
        "/admin/v1/fleet",
        Value::Null,
    );
    assert_eq!(refused.await.status, 401);

    let act = |what: &str| format!("/admin/v1/tenants/acme/{what}");
    house.post(&act("suspend"), Value::Null).await.ok();
    assert_eq!(house.browse(home, Some(&session)).await.status, 303);
    house.post(&act("resume"), Value::Null).await.ok();
    let seen = house.come_in(&provider).await;
    assert_eq!(seen.status, 303, "{}", seen.text);
    let session = seen.cookie("partywall_session").unwrap();
    let left = house.press("/dashboard/sign-out", &session, "").await;
    assert_eq!(left.status, 303);
    assert_eq!(house.browse(home, Some(&session)).await.status, 303);
    let page = house
        .browse("/dashboard/sign-in?next=/dashboard/fleet", None)
        .await;
    assert!(
        page.text
            .contains("/dashboard/oidc/start?next=%2Fdashboard%2Ffleet"),
        "{}",
        page.text
    );
    let out = house.browse("/dashboard/oidc/out", None).await;
    let to = "https://id.example/end?client_id=partywall&post_logout_redirect_uri=\
              https%3A%2F%2Fpw.example%2Fdashboard%2Fsign-in";
    assert_eq!(out.location(), to);
    // Nobody is sent elsewhere on the way.
    let seen = house
        .browse("/dashboard/oidc/start?next=https://evil.example", None)
        .await;
    let (code, state) = provider.code_for(seen.location());
    let flow = seen.cookie("partywall_oidc").unwrap();
    let seen = house.with_flow(&back(&code, &state), &flow).await;
    assert_eq!(seen.location(), "/dashboard");

    *house.rest.services.lock() = None;
    house.clock.advance(Duration::from_secs(3_600));
    let gone = house.browse("/dashboard/oidc/start", None).await;
    assert_eq!(gone.status, 502);
    assert!(gone.text.contains("use a key"), "{}", gone.text);
}
