//! Who calls in the demo: twenty tenants, what each is like, and what they want.

use ledger::Hop;

/// A tenant and its habits.
#[derive(Debug)]
pub(super) struct Persona {
    pub(super) name: &'static str,
    pub(super) tier: &'static str,
    /// Requests on a usual working day, at the end of the month.
    pub(super) requests_a_day: u32,
    /// How many thousandths of that it had at the month's beginning.
    pub(super) grew_from_permille: u32,
    /// How many thousandths of a working day a day of the weekend has.
    pub(super) weekend_permille: u32,
    /// Of a thousand requests, those that an upstream refuses.
    pub(super) refused_permille: u32,
    /// How much of this month's budget it will have used.
    pub(super) budget_used_permille: u32,
    pub(super) features: &'static [Feature],
}

/// What a product does, and what that takes.
#[derive(Debug)]
pub(super) struct Feature {
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    /// Its part among the tenant's features.
    pub(super) weight: u32,
    pub(super) model: &'static str,
    /// The usual numbers of tokens, in and out.
    pub(super) tokens: (u32, u32),
    /// How many thousandths of the input come from the prefix cache, at best.
    pub(super) cached_permille: u32,
    /// What goes before the answer: each is a call of its own.
    pub(super) before: &'static [Hop],
}

const CHAT: Feature = Feature {
    name: "support-chat",
    description: "answers customers",
    weight: 6,
    model: "sim-large",
    tokens: (1_800, 260),
    cached_permille: 700,
    before: &[Hop::Guard],
};
const SEARCH: Feature = Feature {
    name: "search",
    description: "answers from the handbook",
    weight: 4,
    model: "sim-large",
    tokens: (4_200, 320),
    cached_permille: 150,
    before: &[Hop::Embed],
};
const SUMMARY: Feature = Feature {
    name: "summarise",
    description: "shortens calls and tickets",
    weight: 3,
    model: "sim-small",
    tokens: (6_500, 420),
    cached_permille: 50,
    before: &[],
};
const CODE: Feature = Feature {
    name: "code-review",
    description: "reads changes",
    weight: 3,
    model: "sim-large",
    tokens: (9_500, 900),
    cached_permille: 400,
    before: &[],
};
const TAGS: Feature = Feature {
    name: "tagging",
    description: "sorts tickets",
    weight: 5,
    model: "sim-small",
    tokens: (600, 24),
    cached_permille: 300,
    before: &[],
};
const DRAFTS: Feature = Feature {
    name: "drafts",
    description: "writes letters",
    weight: 2,
    model: "sim-large",
    tokens: (900, 700),
    cached_permille: 200,
    before: &[],
};

const fn persona(
    name: &'static str,
    tier: &'static str,
    requests_a_day: u32,
    features: &'static [Feature],
) -> Persona {
    Persona {
        name,
        tier,
        requests_a_day,
        grew_from_permille: 850,
        weekend_permille: 350,
        refused_permille: 3,
        budget_used_permille: 450,
        features,
    }
}

/// Everybody. Most are well; a few are what an operator looks for.
pub(super) const EVERYBODY: [Persona; 20] = [
    Persona {
        // Grows fast, and will be over its budget before the month is.
        grew_from_permille: 300,
        budget_used_permille: 930,
        ..persona("acme", "team", 420, &[CHAT, SEARCH, TAGS])
    },
    Persona {
        budget_used_permille: 610,
        ..persona("globex", "free", 60, &[CHAT, DRAFTS])
    },
    Persona {
        // Its budget is used up.
        budget_used_permille: 1_080,
        ..persona("initech", "team", 180, &[CODE, SUMMARY])
    },
    Persona {
        // Its upstream refuses much.
        refused_permille: 90,
        ..persona("umbrella", "enterprise", 240, &[CHAT, SUMMARY, TAGS])
    },
    Persona {
        // Works through the night and the weekend.
        weekend_permille: 1_000,
        budget_used_permille: 720,
        ..persona("hooli", "enterprise", 520, &[SEARCH, CODE, TAGS])
    },
    Persona {
        budget_used_permille: 830,
        ..persona("soylent", "team", 140, &[TAGS, SUMMARY])
    },
    persona("stark", "enterprise", 300, &[CODE, DRAFTS]),
    Persona {
        // Leaves.
        grew_from_permille: 2_600,
        budget_used_permille: 220,
        ..persona("wayne", "team", 70, &[DRAFTS, SUMMARY])
    },
    persona("wonka", "free", 45, &[DRAFTS]),
    persona("cyberdyne", "enterprise", 210, &[CODE, SEARCH]),
    persona("tyrell", "team", 160, &[CHAT, TAGS]),
    persona("aperture", "team", 130, &[SUMMARY, CODE]),
    persona("oscorp", "team", 90, &[SEARCH]),
    persona("massive", "enterprise", 260, &[CHAT, SEARCH, SUMMARY]),
    persona("vandelay", "free", 25, &[DRAFTS, TAGS]),
    persona("dunder", "team", 110, &[DRAFTS, TAGS]),
    persona("pied-piper", "free", 80, &[TAGS, SUMMARY]),
    persona("gringotts", "enterprise", 150, &[SUMMARY, TAGS]),
    persona("monsters", "team", 95, &[CHAT]),
    persona("nakatomi", "free", 30, &[SEARCH, DRAFTS]),
];

/// Teams, and the people in them.
pub(super) const TEAMS: [(&str, &[&str]); 3] = [
    ("core", &["ada", "grace"]),
    ("sales", &["alan", "edsger"]),
    ("research", &["barbara"]),
];

/// How many of a day's thousandths each hour of the day has (UTC).
pub(super) const HOURS: [u32; 24] = [
    6, 5, 4, 4, 6, 12, 26, 48, 72, 84, 86, 78, 70, 80, 84, 80, 72, 58, 42, 30, 22, 16, 10, 5,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_whole_and_names_are_their_own() {
        assert_eq!(HOURS.iter().sum::<u32>(), 1_000);
        let names: std::collections::BTreeSet<&str> =
            EVERYBODY.iter().map(|persona| persona.name).collect();
        assert_eq!(names.len(), EVERYBODY.len());
    }
}
