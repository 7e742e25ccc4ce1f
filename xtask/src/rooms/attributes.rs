/*!
Which attributes a piece of code carries, and whether they keep it out of all but tests.
*/
use syn::{
    Attribute, ImplItem, ImplItemConst, ImplItemFn, ImplItemMacro, ImplItemType, Item, ItemConst,
    ItemEnum, ItemExternCrate, ItemFn, ItemForeignMod, ItemImpl, ItemMacro, ItemMod, ItemStatic,
    ItemStruct, ItemTrait, ItemTraitAlias, ItemType, ItemUnion, ItemUse, Meta, Token, TraitItem,
    TraitItemConst, TraitItemFn, TraitItemMacro, TraitItemType, punctuated::Punctuated,
};

/// Whether what carries the attributes is compiled in tests alone.
pub(super) fn only_in_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute
                    .parse_args()
                    .is_ok_and(|when| holds_in_tests(&when))
    })
}

/// Whether the condition of a `cfg` can hold in tests alone.
fn holds_in_tests(when: &Meta) -> bool {
    let Meta::List(list) = when else {
        return when.path().is_ident("test");
    };
    let parts = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
    let Ok(parts) = parts else {
        return false;
    };
    if list.path.is_ident("all") {
        parts.iter().any(holds_in_tests)
    } else {
        list.path.is_ident("any") && !parts.is_empty() && parts.iter().all(holds_in_tests)
    }
}

pub(super) fn of_item(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(ItemConst { attrs, .. })
        | Item::Enum(ItemEnum { attrs, .. })
        | Item::ExternCrate(ItemExternCrate { attrs, .. })
        | Item::Fn(ItemFn { attrs, .. })
        | Item::ForeignMod(ItemForeignMod { attrs, .. })
        | Item::Impl(ItemImpl { attrs, .. })
        | Item::Macro(ItemMacro { attrs, .. })
        | Item::Mod(ItemMod { attrs, .. })
        | Item::Static(ItemStatic { attrs, .. })
        | Item::Struct(ItemStruct { attrs, .. })
        | Item::Trait(ItemTrait { attrs, .. })
        | Item::TraitAlias(ItemTraitAlias { attrs, .. })
        | Item::Type(ItemType { attrs, .. })
        | Item::Union(ItemUnion { attrs, .. })
        | Item::Use(ItemUse { attrs, .. }) => attrs,
        _ => &[],
    }
}

pub(super) fn of_impl_item(item: &ImplItem) -> &[Attribute] {
    match item {
        ImplItem::Const(ImplItemConst { attrs, .. })
        | ImplItem::Fn(ImplItemFn { attrs, .. })
        | ImplItem::Type(ImplItemType { attrs, .. })
        | ImplItem::Macro(ImplItemMacro { attrs, .. }) => attrs,
        _ => &[],
    }
}

pub(super) fn of_trait_item(item: &TraitItem) -> &[Attribute] {
    match item {
        TraitItem::Const(TraitItemConst { attrs, .. })
        | TraitItem::Fn(TraitItemFn { attrs, .. })
        | TraitItem::Type(TraitItemType { attrs, .. })
        | TraitItem::Macro(TraitItemMacro { attrs, .. }) => attrs,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::only_in_tests;

    #[test]
    fn only_what_no_other_build_has_is_left_to_tests() {
        let is_test = |attributes: &str| {
            let item = syn::parse_str(&format!("{attributes} fn f() {{}}")).unwrap();
            only_in_tests(super::of_item(&item))
        };
        for attributes in [
            "#[cfg(test)]",
            "#[test]",
            "#[cfg(all(unix, test))]",
            "#[inline] #[cfg(any(test, all(test, unix)))]",
        ] {
            assert!(is_test(attributes), "{attributes}");
        }
        for attributes in [
            "",
            "#[cfg(not(test))]",
            "#[cfg(any(test, feature = \"test\"))]",
            "#[cfg(any())]",
            "#[cfg_attr(test, inline)]",
        ] {
            assert!(!is_test(attributes), "{attributes}");
        }
    }
}
