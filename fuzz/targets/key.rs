//! The key: what went through the door's checks has one, made of a fixed number of
//! parts, and what a fill asks for has the same.
#![no_main]

use config::{KeyRules, QueryRule};
use http::HeaderName;
use libfuzzer_sys::fuzz_target;
use node::fuzzing::{Read, key, request_head, target_in};

fuzz_target!(|input: &[u8]| {
    let Read::Whole {
        host,
        path_and_query,
        fields,
        ..
    } = request_head(input)
    else {
        return;
    };
    let names = || vec!["a".to_owned(), "utm_*".to_owned()];
    let queries = [
        QueryRule::All,
        QueryRule::Ignore,
        QueryRule::Keep(names()),
        QueryRule::Drop(names()),
    ];
    for query in queries {
        for query_sort in [false, true] {
            let rules = KeyRules {
                query: query.clone(),
                query_sort,
                headers: vec![HeaderName::from_static("x-a")],
                cookies: vec!["c".to_owned()],
                ..KeyRules::default()
            };
            let ours = key(&host, &path_and_query, &fields, &rules);
            // Site, scheme, host, target, field and cookie, each with its end.
            assert_eq!(ours.iter().filter(|byte| **byte == 0).count(), 6);
            let target = target_in(&ours).expect("the key is of text");
            assert_eq!(key(&host, target, &fields, &rules), ours);
        }
    }
});
