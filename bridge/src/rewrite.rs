//! Rebuilds a parsed template so that every operation that can build or walk something large goes through a filter that
//! pays for it first (src/filters.rs). The engine's own fuel counts instructions only, and thirty of them double a text
//! to a gigabyte.

use minijinja::machinery::ast::{
    AutoEscape, BinOp, BinOpKind, Block, Call, CallArg, CallBlock, Compare, CompareOp,
    CompareOpKind, Const, Do, EmitExpr, Expr, Extends, Filter, FilterBlock, ForLoop, FromImport,
    GetAttr, GetItem, IfCond, IfExpr, Import, Include, List, Macro, Map, Set, SetBlock, Spanned,
    Stmt, Template, Test, UnaryOp, UnaryOpKind, Var, WithBlock,
};
use minijinja::machinery::{tokenize, Span, Token, WhitespaceConfig};
use minijinja::syntax::SyntaxConfig;
use minijinja::Value;

use crate::{Failure, Status};

// Trees are walked recursively: these keep them shallower than the stack of a rendering is deep.
const EXPRESSION_TOKENS: usize = 10_000;
const ELSE_IFS: usize = 2_000;
pub const SOURCE_BYTES: usize = 1 << 20;

/// Refuses a template whose tree could be too deep. Before it is parsed.
pub fn check_size(source: &str, whitespace: WhitespaceConfig) -> Result<(), Failure> {
    if source.len() > SOURCE_BYTES {
        let message = format!(
            "the template has {} bytes, more than the {SOURCE_BYTES} that a template may have",
            source.len()
        );
        return Err(Failure::new(Status::Syntax, message));
    }
    let mut in_expression = 0;
    let mut else_ifs = 0;
    // What is wrong with the text is the parser's to say.
    for (token, span) in
        tokenize(source, false, SyntaxConfig::default(), whitespace).map_while(Result::ok)
    {
        match token {
            Token::VariableStart | Token::BlockStart => in_expression = 0,
            Token::Ident("elif") => else_ifs += 1,
            _ => in_expression += 1,
        }
        if in_expression > EXPRESSION_TOKENS || else_ifs > ELSE_IFS {
            let message = format!("line {}: the expression is too long", span.start_line);
            return Err(Failure::new(Status::Syntax, message));
        }
    }
    Ok(())
}

fn filter<'a>(name: &'a str, input: Expr<'a>, args: Vec<Expr<'a>>, span: Span) -> Expr<'a> {
    let args = args.into_iter().map(CallArg::Pos).collect();
    Expr::Filter(Spanned::new(Filter { name, expr: Some(input), args }, span))
}

fn constant<'a>(value: Value, span: Span) -> Expr<'a> {
    Expr::Const(Spanned::new(Const { value }, span))
}

/// Pays for walking what `input` gives, unless that is known to be cheap.
fn paid<'a>(name: &'a str, input: Expr<'a>) -> Expr<'a> {
    if let Expr::Const(constant) = &input {
        if constant.value.as_str().is_none_or(|text| text.len() < 64) {
            return input;
        }
    }
    let span = input.span();
    filter(name, input, Vec::new(), span)
}

fn held(made: Expr<'_>) -> Expr<'_> {
    let span = made.span();
    filter("__hold", made, Vec::new(), span)
}

pub fn statement<'a>(stmt: &Stmt<'a>) -> Stmt<'a> {
    match stmt {
        Stmt::Template(s) => {
            Stmt::Template(Spanned::new(Template { children: body(&s.children) }, s.span()))
        }
        Stmt::EmitExpr(s) => {
            Stmt::EmitExpr(Spanned::new(EmitExpr { expr: emitted(&s.expr) }, s.span()))
        }
        // As an expression, so that the formatter counts it.
        Stmt::EmitRaw(s) => {
            let expr = constant(Value::from(s.raw), s.span());
            Stmt::EmitExpr(Spanned::new(EmitExpr { expr }, s.span()))
        }
        Stmt::ForLoop(s) => Stmt::ForLoop(Spanned::new(
            ForLoop {
                target: target(&s.target),
                iter: filter("__items", expression(&s.iter), Vec::new(), s.iter.span()),
                filter_expr: s.filter_expr.as_ref().map(expression),
                recursive: s.recursive,
                body: body(&s.body),
                else_body: body(&s.else_body),
            },
            s.span(),
        )),
        Stmt::IfCond(s) => Stmt::IfCond(Spanned::new(
            IfCond {
                expr: expression(&s.expr),
                true_body: body(&s.true_body),
                false_body: body(&s.false_body),
            },
            s.span(),
        )),
        Stmt::WithBlock(s) => {
            let assignments = s
                .assignments
                .iter()
                .map(|(name, value)| (target(name), expression(value)))
                .collect();
            Stmt::WithBlock(Spanned::new(WithBlock { assignments, body: body(&s.body) }, s.span()))
        }
        Stmt::Set(s) => {
            let value = expression(&s.expr);
            // Into a namespace goes nothing that could contain that namespace.
            let value =
                if matches!(s.target, Expr::GetAttr(_)) { paid("__store", value) } else { value };
            Stmt::Set(Spanned::new(Set { target: target(&s.target), expr: value }, s.span()))
        }
        Stmt::SetBlock(s) => Stmt::SetBlock(Spanned::new(
            SetBlock {
                target: target(&s.target),
                filter: s.filter.as_ref().map(expression),
                body: body(&s.body),
            },
            s.span(),
        )),
        Stmt::AutoEscape(s) => Stmt::AutoEscape(Spanned::new(
            AutoEscape { enabled: expression(&s.enabled), body: body(&s.body) },
            s.span(),
        )),
        Stmt::FilterBlock(s) => Stmt::FilterBlock(Spanned::new(
            FilterBlock { filter: expression(&s.filter), body: body(&s.body) },
            s.span(),
        )),
        Stmt::Block(s) => Stmt::Block(Spanned::new(
            Block { name: s.name, required: s.required, body: body(&s.body) },
            s.span(),
        )),
        Stmt::Import(s) => Stmt::Import(Spanned::new(
            Import { expr: expression(&s.expr), name: target(&s.name) },
            s.span(),
        )),
        Stmt::FromImport(s) => {
            let names = s
                .names
                .iter()
                .map(|(name, alias)| (target(name), alias.as_ref().map(target)))
                .collect();
            Stmt::FromImport(Spanned::new(
                FromImport { expr: expression(&s.expr), names },
                s.span(),
            ))
        }
        Stmt::Extends(s) => {
            Stmt::Extends(Spanned::new(Extends { name: expression(&s.name) }, s.span()))
        }
        Stmt::Include(s) => Stmt::Include(Spanned::new(
            Include { name: expression(&s.name), ignore_missing: s.ignore_missing },
            s.span(),
        )),
        Stmt::Macro(s) => Stmt::Macro(macro_declaration(s)),
        Stmt::CallBlock(s) => Stmt::CallBlock(Spanned::new(
            CallBlock { call: call(&s.call), macro_decl: macro_declaration(&s.macro_decl) },
            s.span(),
        )),
        Stmt::Continue(s) => {
            Stmt::Continue(Spanned::new(minijinja::machinery::ast::Continue, s.span()))
        }
        Stmt::Break(s) => Stmt::Break(Spanned::new(minijinja::machinery::ast::Break, s.span())),
        Stmt::Do(s) => Stmt::Do(Spanned::new(Do { call: call(&s.call) }, s.span())),
    }
}

fn body<'a>(statements: &[Stmt<'a>]) -> Vec<Stmt<'a>> {
    statements.iter().map(statement).collect()
}

fn macro_declaration<'a>(s: &Spanned<Macro<'a>>) -> Spanned<Macro<'a>> {
    let declaration = Macro {
        name: s.name,
        args: s.args.iter().map(target).collect(),
        defaults: s.defaults.iter().map(expression).collect(),
        body: body(&s.body),
    };
    Spanned::new(declaration, s.span())
}

/// Something that is assigned to: names, tuples of names, attributes of a namespace.
fn target<'a>(expr: &Expr<'a>) -> Expr<'a> {
    match expr {
        Expr::List(s) => {
            Expr::List(Spanned::new(List { items: s.items.iter().map(target).collect() }, s.span()))
        }
        Expr::GetAttr(s) => {
            Expr::GetAttr(Spanned::new(GetAttr { expr: target(&s.expr), name: s.name }, s.span()))
        }
        Expr::Var(s) => Expr::Var(Spanned::new(Var { id: s.id }, s.span())),
        other => expression(other),
    }
}

/// What is printed: calls that the compiler knows by shape (loop, super, blocks) keep it.
fn emitted<'a>(expr: &Expr<'a>) -> Expr<'a> {
    match expr {
        Expr::Call(s) => Expr::Call(call(s)),
        other => expression(other),
    }
}

fn call<'a>(s: &Spanned<Call<'a>>) -> Spanned<Call<'a>> {
    let callee = match &s.expr {
        Expr::GetAttr(attribute) => {
            let expr = expression(&attribute.expr);
            Expr::GetAttr(Spanned::new(GetAttr { expr, name: attribute.name }, attribute.span()))
        }
        other => expression(other),
    };
    Spanned::new(Call { expr: callee, args: arguments(&s.args) }, s.span())
}

fn arguments<'a>(args: &[CallArg<'a>]) -> Vec<CallArg<'a>> {
    let rebuild = |arg: &CallArg<'a>| match arg {
        CallArg::Pos(expr) => CallArg::Pos(expression(expr)),
        CallArg::Kwarg(name, expr) => CallArg::Kwarg(name, expression(expr)),
        CallArg::PosSplat(expr) => CallArg::PosSplat(paid("__walk", expression(expr))),
        CallArg::KwargSplat(expr) => CallArg::KwargSplat(paid("__walk", expression(expr))),
    };
    args.iter().map(rebuild).collect()
}

fn binary<'a>(s: &Spanned<BinOp<'a>>) -> Expr<'a> {
    let (left, right) = (expression(&s.left), expression(&s.right));
    let name = match s.op {
        BinOpKind::Add => "__add",
        BinOpKind::Mul => "__mul",
        BinOpKind::Rem => "__rem",
        BinOpKind::FloorDiv => "__floordiv",
        BinOpKind::Concat => "__concat",
        BinOpKind::Div => "__div",
        // The engine's folding of constants makes a falsy left side False.
        BinOpKind::ScAnd if matches!(left, Expr::Const(_)) => {
            let truthy = left.as_const().is_some_and(|value| value.is_true());
            return if truthy { right } else { left };
        }
        BinOpKind::ScAnd | BinOpKind::ScOr | BinOpKind::Sub | BinOpKind::Pow => {
            return Expr::BinOp(Spanned::new(BinOp { op: s.op, left, right }, s.span()));
        }
        BinOpKind::In => {
            let node =
                BinOp { op: s.op, left: paid("__weigh", left), right: paid("__weigh", right) };
            return Expr::BinOp(Spanned::new(node, s.span()));
        }
        BinOpKind::Eq
        | BinOpKind::Ne
        | BinOpKind::Lt
        | BinOpKind::Lte
        | BinOpKind::Gt
        | BinOpKind::Gte => {
            let (left, right) = compared(left, right);
            return Expr::BinOp(Spanned::new(BinOp { op: s.op, left, right }, s.span()));
        }
    };
    filter(name, left, vec![right], s.span())
}

/// A comparison with a constant looks at no more than that constant's size.
fn compared<'a>(left: Expr<'a>, right: Expr<'a>) -> (Expr<'a>, Expr<'a>) {
    if matches!(left, Expr::Const(_)) || matches!(right, Expr::Const(_)) {
        return (left, right);
    }
    (paid("__weigh", left), paid("__weigh", right))
}

fn comparison<'a>(s: &Spanned<Compare<'a>>) -> Expr<'a> {
    let mut first = expression(&s.expr);
    let all_constant = s.ops.iter().all(|op| {
        matches!(op.expr, Expr::Const(_))
            && !matches!(op.op, CompareOpKind::In | CompareOpKind::NotIn)
    });
    if !all_constant {
        first = paid("__weigh", first);
    }
    let operand =
        |op: &CompareOp<'a>| CompareOp { op: op.op, expr: paid("__weigh", expression(&op.expr)) };
    Expr::Compare(Spanned::new(
        Compare { expr: first, ops: s.ops.iter().map(operand).collect() },
        s.span(),
    ))
}

/// What must be paid for before a filter sees its input.
fn filter_input<'a>(name: &str, input: Expr<'a>) -> Expr<'a> {
    let payment = match name {
        // These look at a part, or pay themselves.
        "length" | "count" | "first" | "last" | "default" | "d" | "safe" | "int" | "float"
        | "round" | "abs" | "attr" | "bool" | "tojson" | "string" | "join" | "replace"
        | "indent" | "list" | "format" => "__touch",
        "upper" | "lower" | "capitalize" | "title" | "trim" | "escape" | "e" | "wordcount"
        | "center" => "__weigh",
        "map" | "select" | "reject" | "selectattr" | "rejectattr" | "reverse" | "sum" | "batch"
        | "slice" | "items" => "__walk",
        _ => "__sort",
    };
    paid(payment, input)
}

/// Tests that look at the kind of a value only.
fn is_cheap_test(name: &str) -> bool {
    matches!(
        name,
        "defined"
            | "undefined"
            | "none"
            | "string"
            | "number"
            | "mapping"
            | "sequence"
            | "iterable"
            | "boolean"
            | "true"
            | "false"
            | "integer"
            | "float"
            | "odd"
            | "even"
    )
}

pub fn expression<'a>(expr: &Expr<'a>) -> Expr<'a> {
    match expr {
        Expr::Var(s) => Expr::Var(Spanned::new(Var { id: s.id }, s.span())),
        Expr::Const(s) => constant(s.value.clone(), s.span()),
        Expr::Slice(s) => {
            let bound = |bound: &Option<Expr<'a>>| match bound {
                Some(expr) => expression(expr),
                None => constant(Value::from(()), s.span()),
            };
            let args = vec![bound(&s.start), bound(&s.stop), bound(&s.step)];
            filter("__slice", expression(&s.expr), args, s.span())
        }
        Expr::UnaryOp(s) => {
            let op = match s.op {
                UnaryOpKind::Not => UnaryOpKind::Not,
                UnaryOpKind::Neg => UnaryOpKind::Neg,
            };
            Expr::UnaryOp(Spanned::new(UnaryOp { op, expr: expression(&s.expr) }, s.span()))
        }
        Expr::BinOp(s) => binary(s),
        Expr::Compare(s) => comparison(s),
        Expr::IfExpr(s) => Expr::IfExpr(Spanned::new(
            IfExpr {
                test_expr: expression(&s.test_expr),
                true_expr: expression(&s.true_expr),
                false_expr: s.false_expr.as_ref().map(expression),
            },
            s.span(),
        )),
        Expr::Filter(s) => {
            let input = s.expr.as_ref().map(|input| filter_input(s.name, expression(input)));
            held(Expr::Filter(Spanned::new(
                Filter { name: s.name, expr: input, args: arguments(&s.args) },
                s.span(),
            )))
        }
        Expr::Test(s) => {
            let mut input = expression(&s.expr);
            if !is_cheap_test(s.name) {
                input = paid("__weigh", input);
            }
            let node = Test { name: s.name, expr: input, args: arguments(&s.args) };
            Expr::Test(Spanned::new(node, s.span()))
        }
        Expr::GetAttr(s) => Expr::GetAttr(Spanned::new(
            GetAttr { expr: expression(&s.expr), name: s.name },
            s.span(),
        )),
        Expr::GetItem(s) => Expr::GetItem(Spanned::new(
            GetItem {
                expr: expression(&s.expr),
                subscript_expr: paid("__touch", expression(&s.subscript_expr)),
            },
            s.span(),
        )),
        Expr::Call(s) => held(Expr::Call(call(s))),
        Expr::List(s) => held(Expr::List(Spanned::new(
            List { items: s.items.iter().map(expression).collect() },
            s.span(),
        ))),
        Expr::Map(s) => {
            let keys = s.keys.iter().map(|key| paid("__touch", expression(key))).collect();
            let values = s.values.iter().map(expression).collect();
            held(Expr::Map(Spanned::new(Map { keys, values }, s.span())))
        }
    }
}
