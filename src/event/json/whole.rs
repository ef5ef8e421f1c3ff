//! Whole numbers that others write as floats: Python and JavaScript libraries write `7.0` where a type here wants an integer.

use crate::event::Json;
use serde_json::Number;

/// From here on a float may be the rounded form of another integer.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// What `read` makes of `json`, and if that does not fit, of the same with integers for its whole floats. In the second reading a field that
/// takes any JSON gets those integers as well.
pub(crate) fn read<T, E>(json: &Json, read: impl Fn(&Json) -> Result<T, E>) -> Result<T, E> {
    read(json).or_else(|error| match with_integers(json) {
        Some(json) => read(&json),
        None => Err(error),
    })
}

/// A number that is not negative, written either way.
pub(crate) fn unsigned(json: &Json) -> Option<u64> {
    json.as_u64().or_else(|| integer(json)?.as_u64())
}

fn integer(json: &Json) -> Option<Number> {
    let float = json.as_f64().filter(|_| json.is_f64())?;
    let exact = float.fract() == 0.0 && float.abs() < EXACT;
    // Zero has a sign as a float.
    let has_integer = exact && !(float == 0.0 && float.is_sign_negative());
    has_integer.then(|| Number::from(float as i64))
}

/// `None`: there is no whole float in it.
fn with_integers(json: &Json) -> Option<Json> {
    match json {
        Json::Number(_) => integer(json).map(Json::Number),
        Json::Array(items) => {
            let changed: Vec<_> = items.iter().map(with_integers).collect();
            let any = changed.iter().any(Option::is_some);
            any.then(|| changed.into_iter().zip(items).map(|(new, old)| new.unwrap_or_else(|| old.clone())).collect())
        }
        Json::Object(fields) => {
            let changed: Vec<_> = fields.values().map(with_integers).collect();
            let any = changed.iter().any(Option::is_some);
            any.then(|| {
                let fields = fields.iter().zip(changed);
                fields.map(|((name, old), new)| (name.clone(), new.unwrap_or_else(|| old.clone()))).collect()
            })
        }
        Json::Null | Json::Bool(_) | Json::String(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_whole_floats_change() {
        let json = json!({ "a": [1, 2.0, -3.0, 4.5], "b": { "c": 0.0, "d": -0.0 }, "e": "7.0", "f": null });
        let expected = json!({ "a": [1, 2, -3, 4.5], "b": { "c": 0, "d": -0.0 }, "e": "7.0", "f": null });
        assert_eq!(with_integers(&json), Some(expected));
        for same in [json!({ "a": [1, 0.5], "b": {} }), json!(1e300), json!(EXACT), json!(-EXACT), json!("x")] {
            assert_eq!(with_integers(&same), None, "{same}");
        }
        assert_eq!(with_integers(&json!(EXACT - 1.0)), Some(json!(9_007_199_254_740_991_i64)));
        assert_eq!(
            [json!(7), json!(7.0), json!(7.5), json!(-7.0)].map(|n| unsigned(&n)),
            [Some(7), Some(7), None, None]
        );
    }
}
