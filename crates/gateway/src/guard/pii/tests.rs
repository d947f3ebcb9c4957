//! What is found and what is not, as tables.

use super::*;

fn found(spec: &str, text: &str) -> Vec<(&'static str, String)> {
    let pii = Pii::compile(&serde_json::from_str(spec).unwrap());
    let view = View::new(text.as_bytes(), true);
    let mut all = Vec::new();
    let mut from = 0;
    while let PiiStep::Found { label, start, end } = pii.next(&view, from) {
        all.push((label, text[start..end].to_owned()));
        from = end;
    }
    all
}

/// Each line is found whole, and nothing else is.
#[rustfmt::skip]
const FOUND: &[(&str, &str, &str)] = &[
    ("CARD", "my card ", "4111 1111 1111 1111"),
    ("CARD", "", "4111111111111111"),
    ("CARD", "amex ", "3782 822463 10005"),
    ("CARD", "diners ", "30569309025904"),
    ("CARD", "mc ", "5555-5555-5555-4444"),
    ("CARD", "cup ", "6212345678901265"),
    ("IBAN", "to ", "DE89 3704 0044 0532 0130 00"),
    ("IBAN", "to ", "GB29NWBK60161331926819"),
    ("IBAN", "to ", "fr1420041010050500013m02606"),
    ("EMAIL", "<", "first.last+tag@sub.example.co.uk"),
    ("EMAIL", "mailto:", "a@b.io"),
    ("PHONE", "", "+49 30 1234567"),
    ("PHONE", "call ", "+1 (415) 555-2671"),
    ("PHONE", "", "(415) 555-2671"),
    ("PHONE", "", "415-555-2671"),
    ("PHONE", "", "415.555.2671x123"),
    ("PHONE", "fax: ", "4155552671"),
    ("PHONE", "", "030/1234567"),
    ("PHONE", "", "01 23 45 67 89"),
    ("PHONE", "", "0171 2345678"),
    ("PHONE", "", "+33 (0)1 23 45 67 89"),
    ("IP", "from ", "192.168.1.10"),
    ("IP", "at ", "2001:db8::8a2e:370:7334"),
    ("IP", "at ", "fe80::1ff:fe23:4567:890a"),
    ("US_SSN", "", "536-90-4399"),
    ("US_SSN", "SSN is ", "536904399"),
    ("US_ITIN", "", "912-70-1234"),
    ("GB_NINO", "", "AB 12 34 56 C"),
    ("GB_NINO", "", "JG121316A"),
    ("GB_NHS", "NHS no ", "943 476 5919"),
    ("DE_TAX_ID", "", "86095742719"),
    ("DE_PENSION", "", "06050575Y699"),
    ("FR_NIR", "", "2 55 08 14 168 025 38"),
    ("FR_NIR", "", "255081416802538"),
    ("ES_DNI", "", "12345678Z"),
    ("ES_NIE", "", "X1234567L"),
    ("IT_CODICE_FISCALE", "", "RSSMRA85T10A562S"),
    ("NL_BSN", "bsn: ", "111222333"),
    ("BE_NRN", "", "85.07.30-033.28"),
    ("PL_PESEL", "", "44051401359"),
    ("NO_FODSELSNUMMER", "", "01010750160"),
    ("SE_PERSONNUMMER", "", "811218-9876"),
    ("FI_HETU", "", "131052-308T"),
    ("CH_AHV", "", "756.9217.0769.85"),
    ("PT_NIF", "NIF ", "123456789"),
    ("RO_CNP", "", "1800101221144"),
    ("BR_CPF", "", "529.982.247-25"),
    ("BR_CNPJ", "", "11.222.333/0001-81"),
    ("IN_AADHAAR", "", "2341 2341 2346"),
    ("IN_PAN", "", "ABCPD1234E"),
    ("CN_RESIDENT_ID", "", "11010519491231002X"),
    ("KR_RRN", "", "900101-1234567"),
    ("SG_NRIC", "", "S1234567D"),
    ("MX_CURP", "", "HEGG560427MVZRRL04"),
    ("CA_SIN", "", "278-018-460"),
    ("AU_TFN", "tax file number ", "123 456 782"),
    ("ZA_ID", "", "9202204720083"),
    ("TR_KIMLIK", "kimlik ", "10000000146"),
    ("SECRET", "", "AKIAIOSFODNN7EXAMPLE"),
    ("SECRET", "token ", "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"),
    ("SECRET", "", "sk-ant-api03-abcdefghijklmnopqrstuvwxyz0123456789ABCD-xyzAA"),
    ("SECRET", "", "sk-proj-abcdefghijklmnopqrstT3BlbkFJabcdefghijklmnopqrst"),
    ("SECRET", "", "AIzaSyA1234567890abcdefghijklmnopqrstuv"),
    ("SECRET", "", "xoxb-123456789012-abcdefghijkl"),
    ("SECRET", "aws_secret_access_key = \"", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    ("SECRET", "password: ", "hJ4kd9Lw2mQ8xZ7p"),
    ("SECRET", "Authorization: Bearer ", "a8f5f167f44f4964e6c998dee827110c"),
    ("SECRET", "", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"),
    ("PRIVATE_KEY", "", "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nabc+/=\n-----END RSA PRIVATE KEY-----"),
];

#[test]
fn what_there_is_is_found_whole() {
    for (label, before, value) in FOUND {
        for after in ["", ".", " and more", "\n", ", 12 of them", "…"] {
            let text = format!("{before}{value}{after}");
            assert_eq!(
                found("{}", &text),
                [(*label, (*value).to_owned())],
                "{text}"
            );
        }
    }
}

#[rustfmt::skip]
const NOT_FOUND: &[&str] = &[
    "", "hello world", "version 1.2.3 of 2024-05-06 at 12:30:45",
    // Wrong checksums, lengths and ranges.
    "4111 1111 1111 1112", "1234567890123456", "DE89 3704 0044 0532 0130 01", "666-90-4399", "078-05-1120",
    "12345678A", "529.982.247-26", "756.9217.0769.86", "ghp_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq18",
    "2341 2341 2345", "811218-9877", "GB123456A",
    // Parts of something longer.
    "a4111111111111111", "41111111111111119999", "0.123456789012", "1-536-90-4399-1",
    // Numbers without a word that says what they are.
    "536904399", "4155552671", "111222333", "12345678",
    // Dates, sums, places, code.
    "01/02/2024 10:30", "2024-01-02", "1,234,567.89", "std::vec::Vec", "52.5200, 13.4050", "a::b", "::",
    "call me on 2024-05-06", "0.0.0.0", "255.255.255.0", "300.1.1.1", "@mention", "a@b", "a@b.c", "user@localhost",
    // Secrets that are none.
    "password: ********************", "password = os.environ[\"DATABASE_PASSWORD\"]", "token: string",
    "sk-learn is a library for machine learning in Python and so on", "the secret is kindness",
    "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----", "eyJhbGciOiJIUzI1NiJ9",
];

#[test]
fn what_only_looks_alike_is_not_found() {
    for text in NOT_FOUND {
        assert_eq!(found("{}", text), [], "{text}");
    }
}

#[test]
fn our_own_keys_are_found_by_their_checksum() {
    let key = tenancy::ApiKey::generate(&base::SeededEntropy::new(1));
    let key = key.expose();
    assert_eq!(
        found("{}", &format!("use {key}.")),
        [("SECRET", key.to_owned())]
    );
    let wrong = format!(
        "{}{}",
        &key[..51],
        if key.ends_with('0') { '1' } else { '0' }
    );
    assert_eq!(found("{}", &wrong), []);
}

#[test]
fn only_what_is_wanted_is_looked_for() {
    let text = "4111111111111111 a@b.io 536-90-4399 AB123456C";
    let labels = |spec| -> Vec<&str> { found(spec, text).into_iter().map(|one| one.0).collect() };
    assert_eq!(labels(r#"{"kinds":["card"]}"#), ["CARD"]);
    assert_eq!(
        labels(r#"{"kinds":["email","national-id"],"countries":["us"]}"#),
        ["EMAIL", "US_SSN"]
    );
    assert_eq!(
        labels(r#"{"kinds":["national-id"]}"#),
        ["US_SSN", "GB_NINO"]
    );
}

#[test]
fn a_number_is_found_behind_others() {
    let text = "12 4111 1111 1111 1111 99, 415-555-2671 2024";
    assert_eq!(
        found("{}", text),
        [
            ("CARD", "4111 1111 1111 1111".to_owned()),
            ("PHONE", "415-555-2671".to_owned())
        ]
    );
}

#[test]
fn what_may_go_on_is_open() {
    let open = |text: &str| {
        let pii = Pii::compile(&PiiSpec::default());
        pii.next(&View::new(text.as_bytes(), false), 0)
    };
    assert_eq!(open("hello there. "), PiiStep::Done);
    assert_eq!(open("hello there"), PiiStep::Open(6));
    assert_eq!(open("call 4111 1111 "), PiiStep::Open(5));
    assert_eq!(open("4111111111111111"), PiiStep::Open(0));
    assert!(matches!(open("4111111111111111 is"), PiiStep::Found { .. }));
}
