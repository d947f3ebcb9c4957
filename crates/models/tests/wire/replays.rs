//! A recorded answer, given again as what it was not recorded as: whole as a stream, and a stream
//! whole.

use models::{AnswerNames, Dialect, StreamUsage};
use serde_json::Value;

use crate::answers::all;

#[test]
fn a_whole_answer_and_its_replayed_stream_say_the_same() {
    let names = || AnswerNames {
        id: "req_1".into(),
        model: "m".into(),
        created: 7,
    };
    let mut seen = 0;
    for case in all() {
        let Some(whole) = case.whole else { continue };
        let answer = case.dialect.read_answer(&whole).unwrap();
        for client in [Dialect::OpenAiChat, Dialect::Anthropic] {
            let sent = client.write_answer(&answer, &names()).unwrap();
            let kept = client.read_answer(&sent).unwrap();
            let usage = StreamUsage::Wanted;
            let stream = client.write_stream(&kept, names(), usage).unwrap();
            let again = client.read_stream(stream).unwrap();
            let again = client.write_answer(&again, &names()).unwrap();
            let json = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap();
            assert_eq!(json(&again), json(&sent), "{} for {client:?}", case.name);
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}
