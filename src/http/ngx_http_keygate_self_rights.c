
/*
 * What a key may hand on: never more than it has itself, and to test keys of
 * its own organisation only.
 *
 * Scopes, addresses and the end are compared as they are.  Limits are compared
 * as they will be applied, policy by policy: a key without a limit of its own
 * has its organisation's, its plan's or the policy's, which may be higher than
 * what who calls was lowered to.
 */

#include "ngx_http_keygate_self.h"


static ngx_int_t ngx_http_keygate_self_inherit(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_self_scopes(
    ngx_http_keygate_admin_t *admin);
static ngx_uint_t ngx_http_keygate_self_addresses(
    ngx_http_keygate_admin_t *admin);
static ngx_uint_t ngx_http_keygate_self_address(json_t *blocks,
    const json_t *value);
static ngx_int_t ngx_http_keygate_self_limits(ngx_http_keygate_admin_t *admin,
    const kg_key_t *key);
static ngx_uint_t ngx_http_keygate_self_named(
    ngx_http_keygate_admin_t *admin, const ngx_http_keygate_policy_t *policy);
static ngx_int_t ngx_http_keygate_self_more(ngx_http_keygate_admin_t *admin,
    const char *field, const ngx_str_t *policy);


ngx_uint_t
ngx_http_keygate_self_sees(ngx_http_keygate_admin_t *admin,
    const json_t *record)
{
    kg_mode_t  mode;
    ngx_str_t  org, text;

    if (admin->self == NULL) {
        return 1;
    }

    org = ngx_http_keygate_admin_member(record, "org");
    text = ngx_http_keygate_admin_member(record, "mode");

    return kg_str_eq(ngx_http_keygate_kg(&org), &admin->self->key.org)
           && kg_mode_parse(ngx_http_keygate_kg(&text), &mode) == KG_OK
           && mode == KG_MODE_TEST;
}


ngx_int_t
ngx_http_keygate_self_hand_on(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t  rc;

    if (admin->self == NULL) {
        return NGX_OK;
    }

    if (ngx_http_keygate_self_inherit(admin) != NGX_OK
        || ngx_http_keygate_self_mark(admin) != NGX_OK)
    {
        return NGX_ERROR;
    }

    rc = ngx_http_keygate_self_covers(admin);

    return (rc == NGX_OK)
           ? ngx_http_keygate_admin_check_span(admin, admin->record) : rc;
}


/*
 * Limits that the caller's record has are copied one by one, those below what
 * would be inherited and those above, so that a plan that is raised later does
 * not raise the new key past the old one.
 */

static ngx_int_t
ngx_http_keygate_self_inherit(ngx_http_keygate_admin_t *admin)
{
    json_t      *own, *limits, *value;
    ngx_uint_t   i;
    const char  *policy;

    static const char  *bounds[] = { "allow", "expiresAt", NULL };

    for (i = 0; bounds[i]; i++) {

        if (!ngx_http_keygate_admin_has(admin->record, bounds[i])
            && ngx_http_keygate_admin_has(admin->self->record, bounds[i])
            && json_object_set(admin->record, bounds[i],
                               json_object_get(admin->self->record,
                                               bounds[i]))
               != 0)
        {
            return NGX_ERROR;
        }
    }

    own = json_object_get(admin->self->record, "limits");

    if (json_object_size(own) == 0) {
        return NGX_OK;
    }

    limits = json_object_get(admin->record, "limits");

    if (limits == NULL) {
        limits = json_object();

        if (json_object_set_new(admin->record, "limits", limits) != 0) {
            return NGX_ERROR;
        }
    }

    json_object_foreach(own, policy, value) {

        if (json_object_get(limits, policy) == NULL
            && json_object_set(limits, policy, value) != 0)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/*
 * A limit that stood whatever is done to the organisation's would let partners
 * write themselves rates that the platform can lower only key by key.
 */

ngx_int_t
ngx_http_keygate_self_mark(ngx_http_keygate_admin_t *admin)
{
    if (admin->self == NULL) {
        (void) json_object_del(admin->record, "ceilings");
        return NGX_OK;
    }

    return json_object_set_new(admin->record, "ceilings", json_true()) == 0
           ? NGX_OK : NGX_ERROR;
}


/*
 * What a key would have without a limit may be no more than the caller's today
 * and more tomorrow: a plan that is raised does not raise those with limits.
 */

ngx_int_t
ngx_http_keygate_self_keeps(ngx_http_keygate_admin_t *admin)
{
    json_t      *own, *had, *has, *value;
    ngx_str_t    name;
    const char  *policy;

    if (admin->self == NULL) {
        return NGX_OK;
    }

    own = json_object_get(admin->self->record, "limits");
    had = json_object_get(admin->before, "limits");
    has = json_object_get(admin->record, "limits");

    json_object_foreach(own, policy, value) {

        if (json_object_get(had, policy) == NULL
            || json_object_get(has, policy) != NULL)
        {
            continue;
        }

        name.data = (u_char *) policy;
        name.len = ngx_strlen(policy);

        return ngx_http_keygate_self_more(admin, "limits.", &name);
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_keygate_self_covers(ngx_http_keygate_admin_t *admin)
{
    int64_t    own;
    kg_key_t   key;
    ngx_int_t  rc;
    ngx_str_t  text, packed;

    if (admin->self == NULL) {
        return NGX_OK;
    }

    rc = ngx_http_keygate_admin_encode(admin, &text);
    if (rc != NGX_OK) {
        return rc;
    }

    if (ngx_http_keygate_admin_packed(admin, KG_ZONE_KEY, &text, &packed)
        != NGX_OK
        || kg_key_view(ngx_http_keygate_kg(&packed), &key) != KG_OK)
    {
        return NGX_ERROR;
    }

    rc = ngx_http_keygate_self_scopes(admin);
    if (rc != NGX_OK) {
        return rc;
    }

    if (!ngx_http_keygate_self_addresses(admin)) {
        return ngx_http_keygate_self_more(admin, "allow", NULL);
    }

    own = admin->self->key.expires_at;

    if (own && (key.expires_at == 0 || key.expires_at > own)) {
        return ngx_http_keygate_self_more(admin, "expiresAt", NULL);
    }

    return ngx_http_keygate_self_limits(admin, &key);
}


/*
 * A wildcard is held by itself or by a wider one.  Whatever holds keys:manage
 * is the platform's to give: a key that leaked must not have made others that
 * go on making keys when it is revoked.  Only the caller itself keeps it.
 */

static ngx_int_t
ngx_http_keygate_self_scopes(ngx_http_keygate_admin_t *admin)
{
    json_t     *scopes;
    size_t      i;
    ngx_str_t   text;
    kg_str_t   *scope;
    ngx_uint_t  own;

    static kg_str_t  manage = kg_string(NGX_HTTP_KEYGATE_SELF_SCOPE);

    own = ngx_http_keygate_self_own(admin);

    scopes = json_object_get(admin->record, "scopes");

    for (i = 0; i < json_array_size(scopes); i++) {
        text = ngx_http_keygate_admin_text(json_array_get(scopes, i));
        scope = ngx_http_keygate_kg(&text);

        if (!kg_scopes_hold(&admin->self->key.scopes, scope)
            || (!own && kg_scopes_hold(scope, &manage)))
        {
            return ngx_http_keygate_self_more(admin, "scopes", NULL);
        }
    }

    return NGX_OK;
}


ngx_uint_t
ngx_http_keygate_self_own(ngx_http_keygate_admin_t *admin)
{
    ngx_str_t  id;

    id = ngx_http_keygate_admin_member(admin->record, "id");

    return kg_str_eq(ngx_http_keygate_kg(&id), &admin->self->key.id);
}


/* 1 when each block is within one block of the caller's, if that has any. */

static ngx_uint_t
ngx_http_keygate_self_addresses(ngx_http_keygate_admin_t *admin)
{
    json_t  *own, *allow;
    size_t   i;

    own = json_object_get(admin->self->record, "allow");
    allow = json_object_get(admin->record, "allow");

    if (json_array_size(own) == 0) {
        return 1;
    }

    for (i = 0; i < json_array_size(allow); i++) {
        if (!ngx_http_keygate_self_address(own, json_array_get(allow, i))) {
            return 0;
        }
    }

    /* An empty list is every address. */

    return i > 0;
}


static ngx_uint_t
ngx_http_keygate_self_address(json_t *blocks, const json_t *value)
{
    size_t     i;
    kg_cidr_t  outer, inner;
    ngx_str_t  text;

    text = ngx_http_keygate_admin_text(value);

    if (kg_cidr_parse(ngx_http_keygate_kg(&text), &inner) != KG_OK) {
        return 0;
    }

    for (i = 0; i < json_array_size(blocks); i++) {
        text = ngx_http_keygate_admin_text(json_array_get(blocks, i));

        if (kg_cidr_parse(ngx_http_keygate_kg(&text), &outer) == KG_OK
            && kg_cidr_covers(&outer, &inner))
        {
            return 1;
        }
    }

    return 0;
}


/*
 * Counts of a policy that are not a key's own are shared by those whose window
 * is the same: another window would be another count, and more for all.  What
 * the call names for them would be one key's word about all.
 *
 * What a call names must be no more than the caller's as it is written, not
 * only where what is above it is lower today.
 */

static ngx_int_t
ngx_http_keygate_self_limits(ngx_http_keygate_admin_t *admin,
    const kg_key_t *key)
{
    kg_key_t                     asked;
    kg_rate_t                    own, given;
    ngx_uint_t                   i, named, shared;
    ngx_http_keygate_self_t     *self;
    ngx_http_keygate_policy_t  **policy;

    self = admin->self;
    policy = admin->mcf->policies.elts;

    for (i = 0; i < admin->mcf->policies.nelts; i++) {

        shared = !(policy[i]->by & NGX_HTTP_KEYGATE_BY_KEY);
        named = ngx_http_keygate_self_named(admin, policy[i]);
        asked = *key;

        if (named) {
            asked.ceilings = 0;
        }

        ngx_http_keygate_rate(admin->mcf, &self->key, &self->org, policy[i],
                              &own);
        ngx_http_keygate_rate(admin->mcf, &asked, &self->org, policy[i],
                              &given);

        if (!kg_rate_covers(&own, &given)
            || (shared && (named || own.window != given.window)))
        {
            return ngx_http_keygate_self_more(admin, "limits.",
                                              &policy[i]->name);
        }
    }

    return NGX_OK;
}


/* 1 when the record at hand has the policy's limit from the call itself. */

static ngx_uint_t
ngx_http_keygate_self_named(ngx_http_keygate_admin_t *admin,
    const ngx_http_keygate_policy_t *policy)
{
    json_t      *value;
    const char  *name;

    /* A word of the configuration: it ends with a NUL. */

    name = (char *) policy->name.data;
    value = json_object_get(json_object_get(admin->body, "limits"), name);

    return json_is_string(value)
           && json_equal(value,
                         json_object_get(json_object_get(admin->record,
                                                         "limits"),
                                         name));
}


static ngx_int_t
ngx_http_keygate_self_more(ngx_http_keygate_admin_t *admin, const char *field,
    const ngx_str_t *policy)
{
    u_char     *p;
    ngx_str_t   details, name;

    static ngx_str_t  none = ngx_string("");

    policy = policy ? policy : &none;

    name.len = ngx_strlen(field) + policy->len;
    details.len = sizeof("{\"reason\":\"more_than_own\",\"field\":\"\"}") - 1
                  + name.len;

    p = ngx_pnalloc(admin->request->pool, name.len + details.len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    name.data = p;
    details.data = ngx_sprintf(p, "%s%V", field, policy);

    /* Neither has a character that JSON would escape. */

    ngx_sprintf(details.data, "{\"reason\":\"more_than_own\",\"field\":\"%V\"}",
                &name);

    return ngx_http_keygate_admin_forbid(admin, &details,
                                         "\"%V\" is more than the calling key "
                                         "may give", &name);
}


ngx_int_t
ngx_http_keygate_self_succeeds(ngx_http_keygate_admin_t *admin)
{
    if (admin->self == NULL
        || !ngx_http_keygate_self_own(admin)
        || !ngx_http_keygate_admin_has(admin->record, "rotatedTo"))
    {
        return NGX_OK;
    }

    return ngx_http_keygate_admin_refuse(admin, KG_ERR_CONFLICT, NULL,
                                         "The calling key was rotated already: "
                                         "its successor goes on");
}
