//! `tools`, `tool_choice` and `parallel_tool_calls`.

use super::{MISSING, Row, TYPE, UNKNOWN, UNSUPPORTED_VALUE, VALUE};

pub(super) const FIELDS: &[Row] = &[
    (TYPE, "tools", r#""tools":"f""#),
    (TYPE, "tools", r#""tools":{}"#),
    (TYPE, "tools", r#""tools":1"#),
    (TYPE, "tools[0]", r#""tools":["f"]"#),
    (TYPE, "tools[0]", r#""tools":[null]"#),
    (TYPE, "tools[0]", r#""tools":[[]]"#),
    (MISSING, "tools[0].type", r#""tools":[{}]"#),
    (
        MISSING,
        "tools[0].type",
        r#""tools":[{"function":{"name":"f"}}]"#,
    ),
    (TYPE, "tools[0].type", r#""tools":[{"type":1}]"#),
    (TYPE, "tools[0].type", r#""tools":[{"type":null}]"#),
    (VALUE, "tools[0].type", r#""tools":[{"type":"retrieval"}]"#),
    (VALUE, "tools[0].type", r#""tools":[{"type":""}]"#),
    (
        UNSUPPORTED_VALUE,
        "tools[0].type",
        r#""tools":[{"type":"custom","custom":{"name":"f"}}]"#,
    ),
    (
        MISSING,
        "tools[0].function",
        r#""tools":[{"type":"function"}]"#,
    ),
    (
        TYPE,
        "tools[0].function",
        r#""tools":[{"type":"function","function":"f"}]"#,
    ),
    (
        TYPE,
        "tools[0].function",
        r#""tools":[{"type":"function","function":null}]"#,
    ),
    (
        UNKNOWN,
        "tools[0].name",
        r#""tools":[{"type":"function","name":"f"}]"#,
    ),
    (
        MISSING,
        "tools[0].function.name",
        r#""tools":[{"type":"function","function":{}}]"#,
    ),
    (
        TYPE,
        "tools[0].function.name",
        r#""tools":[{"type":"function","function":{"name":1}}]"#,
    ),
    (
        TYPE,
        "tools[0].function.name",
        r#""tools":[{"type":"function","function":{"name":null}}]"#,
    ),
    (
        VALUE,
        "tools[0].function.name",
        r#""tools":[{"type":"function","function":{"name":""}}]"#,
    ),
    (
        VALUE,
        "tools[0].function.name",
        r#""tools":[{"type":"function","function":{"name":"a.b"}}]"#,
    ),
    (
        VALUE,
        "tools[0].function.name",
        r#""tools":[{"type":"function","function":{"name":"a\n"}}]"#,
    ),
    (
        VALUE,
        "tools[0].function.name",
        r#""tools":[{"type":"function","function":{"name":"ﬁ"}}]"#,
    ),
    (
        TYPE,
        "tools[0].function.description",
        r#""tools":[{"type":"function","function":{"name":"f","description":1}}]"#,
    ),
    (
        TYPE,
        "tools[0].function.parameters",
        r#""tools":[{"type":"function","function":{"name":"f","parameters":[]}}]"#,
    ),
    (
        TYPE,
        "tools[0].function.parameters",
        r#""tools":[{"type":"function","function":{"name":"f","parameters":"{}"}}]"#,
    ),
    (
        TYPE,
        "tools[0].function.parameters",
        r#""tools":[{"type":"function","function":{"name":"f","parameters":true}}]"#,
    ),
    (
        TYPE,
        "tools[0].function.strict",
        r#""tools":[{"type":"function","function":{"name":"f","strict":1}}]"#,
    ),
    (
        UNKNOWN,
        "tools[0].function.code",
        r#""tools":[{"type":"function","function":{"name":"f","code":"x"}}]"#,
    ),
    (
        VALUE,
        "tools[1].function.name",
        r#""tools":[{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"f"}}]"#,
    ),
    (
        UNSUPPORTED_VALUE,
        "tools[1].type",
        r#""tools":[{"type":"function","function":{"name":"f"}},{"type":"custom"}]"#,
    ),
    // Choices without tools.
    (VALUE, "tool_choice", r#""tool_choice":"required""#),
    (
        VALUE,
        "tool_choice",
        r#""tool_choice":"required","tools":[]"#,
    ),
    (
        VALUE,
        "tool_choice",
        r#""tool_choice":{"type":"function","function":{"name":"f"}}"#,
    ),
    (TYPE, "tool_choice", r#""tool_choice":1"#),
    (TYPE, "tool_choice", r#""tool_choice":["auto"]"#),
    (TYPE, "tool_choice", r#""tool_choice":true"#),
    (VALUE, "tool_choice", r#""tool_choice":"any""#),
    (VALUE, "tool_choice", r#""tool_choice":"""#),
    (MISSING, "tool_choice.type", r#""tool_choice":{}"#),
    (
        MISSING,
        "tool_choice.type",
        r#""tool_choice":{"function":{"name":"f"}}"#,
    ),
    (
        VALUE,
        "tool_choice.type",
        r#""tool_choice":{"type":"auto"}"#,
    ),
    (
        TYPE,
        "tool_choice.type",
        r#""tool_choice":{"type":["function"]}"#,
    ),
    (
        UNSUPPORTED_VALUE,
        "tool_choice.type",
        r#""tool_choice":{"type":"custom"}"#,
    ),
    (
        MISSING,
        "tool_choice.function",
        r#""tool_choice":{"type":"function"}"#,
    ),
    (
        TYPE,
        "tool_choice.function",
        r#""tool_choice":{"type":"function","function":"f"}"#,
    ),
    (
        MISSING,
        "tool_choice.function.name",
        r#""tool_choice":{"type":"function","function":{}}"#,
    ),
    (
        VALUE,
        "tool_choice.function.name",
        r#""tool_choice":{"type":"function","function":{"name":"a b"}}"#,
    ),
    (
        UNKNOWN,
        "tool_choice.function.arguments",
        r#""tool_choice":{"type":"function","function":{"name":"f","arguments":"{}"}}"#,
    ),
    (
        UNKNOWN,
        "tool_choice.name",
        r#""tool_choice":{"type":"function","function":{"name":"f"},"name":"f"}"#,
    ),
    (
        VALUE,
        "tool_choice",
        r#""tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":{"type":"function","function":{"name":"g"}}"#,
    ),
    (
        MISSING,
        "tool_choice.allowed_tools",
        r#""tool_choice":{"type":"allowed_tools"}"#,
    ),
    (
        TYPE,
        "tool_choice.allowed_tools",
        r#""tool_choice":{"type":"allowed_tools","allowed_tools":[]}"#,
    ),
    (
        MISSING,
        "tool_choice.allowed_tools.mode",
        r#""tool_choice":{"type":"allowed_tools","allowed_tools":{}}"#,
    ),
    (
        VALUE,
        "tool_choice.allowed_tools.mode",
        r#""tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"none"}}"#,
    ),
    (
        MISSING,
        "tool_choice.allowed_tools.tools",
        r#""tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto"}}"#,
    ),
    (
        TYPE,
        "tool_choice.allowed_tools.tools",
        r#""tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":"f"}}"#,
    ),
    (
        VALUE,
        "tool_choice.allowed_tools.tools",
        r#""tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[]}}"#,
    ),
    (
        TYPE,
        "tool_choice.allowed_tools.tools[0]",
        r#""tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":["f"]}}"#,
    ),
    (
        MISSING,
        "tool_choice.allowed_tools.tools[0].function",
        r#""tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","name":null}]}}"#,
    ),
    (
        UNKNOWN,
        "tool_choice.allowed_tools.strict",
        r#""tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","strict":true}}"#,
    ),
    (
        UNKNOWN,
        "tool_choice.mode",
        r#""tool_choice":{"type":"allowed_tools","mode":"auto","tools":[]}"#,
    ),
    (
        VALUE,
        "tool_choice",
        r#""tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","function":{"name":"g"}}]}}"#,
    ),
    (TYPE, "parallel_tool_calls", r#""parallel_tool_calls":"no""#),
    (TYPE, "parallel_tool_calls", r#""parallel_tool_calls":0"#),
];
