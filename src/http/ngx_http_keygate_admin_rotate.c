
/*
 * POST /keys/{id}/rotate: a new key with the same rights, and an end to the
 * old one.
 *
 * The new key comes first: cut off in between, the call has made a key whose
 * token nobody has seen, and the old one is what it was.  But when Redis was
 * told of the end and has not said whether there is one, the token is shown:
 * a key that has rotated itself could not ask for another.
 */

#include "ngx_http_keygate_admin_calls.h"
#include "ngx_http_keygate_self.h"


#define NGX_HTTP_KEYGATE_OVERLAP      (24 * 60 * 60)        /* s */
#define NGX_HTTP_KEYGATE_OVERLAP_MAX  (30 * 24 * 60 * 60)


typedef struct {
    ngx_int_t                        overlap;       /* s */
    ngx_str_t                        old_id;
    ngx_str_t                        old_digest;
    ngx_str_t                        new_id;
    ngx_str_t                        new_digest;
    json_t                          *changes;       /* for the audit trail */
} ngx_http_keygate_admin_rotate_t;


static void ngx_http_keygate_admin_rotate_cleanup(void *data);
static ngx_int_t ngx_http_keygate_admin_check_overlap(
    ngx_http_keygate_admin_t *admin, ngx_str_t *field, json_t *value);
static ngx_int_t ngx_http_keygate_admin_overlap(const ngx_str_t *text);
static ngx_int_t ngx_http_keygate_admin_rotate_found(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_rotate_read(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_rotate_make(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_rotate_made(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_rotate_end(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_rotate_new(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_rotate_taken_back(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);
static ngx_int_t ngx_http_keygate_admin_rotate_doubt(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_rotated(
    ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_admin_rotate_show(
    ngx_http_keygate_admin_t *admin);


static const ngx_http_keygate_admin_field_t
    ngx_http_keygate_admin_rotate_fields[] =
{
    { "overlap", ngx_http_keygate_admin_check_overlap, 0, 0 },
    { NULL, NULL, 0, 0 }
};


ngx_int_t
ngx_http_keygate_admin_key_rotate(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t                         rc;
    ngx_str_t                         text;
    ngx_pool_cleanup_t               *cln;
    ngx_http_keygate_admin_rotate_t  *rotate;

    rc = ngx_http_keygate_admin_check(admin,
                                      ngx_http_keygate_admin_rotate_fields,
                                      NGX_HTTP_KEYGATE_ADMIN_REPLACE);
    if (rc != NGX_OK) {
        return rc;
    }

    cln = ngx_pool_cleanup_add(admin->request->pool,
                               sizeof(ngx_http_keygate_admin_rotate_t));
    if (cln == NULL) {
        return NGX_ERROR;
    }

    rotate = cln->data;
    ngx_memzero(rotate, sizeof(ngx_http_keygate_admin_rotate_t));

    cln->handler = ngx_http_keygate_admin_rotate_cleanup;

    text = ngx_http_keygate_admin_member(admin->body, "overlap");

    rotate->overlap = text.data ? ngx_http_keygate_admin_overlap(&text)
                                : NGX_HTTP_KEYGATE_OVERLAP;
    rotate->old_id = admin->param[0];

    admin->data = rotate;

    return ngx_http_keygate_admin_key_begin(admin,
                                          ngx_http_keygate_admin_rotate_found);
}


static void
ngx_http_keygate_admin_rotate_cleanup(void *data)
{
    ngx_http_keygate_admin_rotate_t  *rotate = data;

    json_decref(rotate->changes);
}


static ngx_int_t
ngx_http_keygate_admin_check_overlap(ngx_http_keygate_admin_t *admin,
    ngx_str_t *field, json_t *value)
{
    ngx_str_t  text;

    text = ngx_http_keygate_admin_text(value);

    if (ngx_http_keygate_admin_overlap(&text) == NGX_ERROR) {
        return ngx_http_keygate_admin_wrong(admin, field, "must be a time "
                                            "from \"0\" to \"30d\", as "
                                            "\"24h\"");
    }

    return NGX_OK;
}


/* Seconds, or NGX_ERROR. */

static ngx_int_t
ngx_http_keygate_admin_overlap(const ngx_str_t *text)
{
    ngx_int_t  overlap;
    ngx_str_t  copy;

    copy = *text;

    if (copy.len == 0) {
        return NGX_ERROR;
    }

    overlap = ngx_parse_time(&copy, 1);

    return (overlap > NGX_HTTP_KEYGATE_OVERLAP_MAX) ? NGX_ERROR : overlap;
}


static ngx_int_t
ngx_http_keygate_admin_rotate_found(ngx_http_keygate_admin_t *admin)
{
    ngx_http_keygate_admin_rotate_t  *rotate;

    rotate = admin->data;
    rotate->old_digest = admin->digest;

    return ngx_http_keygate_admin_fetch(admin,
                                        ngx_http_keygate_admin_rotate_read);
}


/* The record at hand is the old key's; what the new one has is in made. */

static ngx_int_t
ngx_http_keygate_admin_rotate_read(ngx_http_keygate_admin_t *admin)
{
    ngx_int_t  rc;

    rc = ngx_http_keygate_admin_key_may(admin, "rotate");

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_admin_key_ended(admin);
    }

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_self_covers(admin);
    }

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_self_succeeds(admin);
    }

    if (rc != NGX_OK) {
        return rc;
    }

    admin->made = json_deep_copy(admin->record);

    if (admin->made == NULL
        || ngx_http_keygate_admin_select(admin, KG_ZONE_ORG, &admin->org)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_keygate_admin_fetch(admin,
                                        ngx_http_keygate_admin_rotate_make);
}


static ngx_int_t
ngx_http_keygate_admin_rotate_make(ngx_http_keygate_admin_t *admin)
{
    u_char                           *p;
    json_t                           *made;
    ngx_int_t                         rc;
    ngx_http_keygate_admin_rotate_t  *rotate;

    rc = ngx_http_keygate_admin_may_issue(admin);

    if (rc == NGX_OK) {
        rc = ngx_http_keygate_admin_draw(admin);
    }

    if (rc != NGX_OK) {
        return rc;
    }

    p = ngx_pnalloc(admin->request->pool, KG_KEY_ID_LEN);
    if (p == NULL || kg_key_id_make(p) != KG_OK) {
        return NGX_ERROR;
    }

    admin->key_id.data = p;
    admin->key_id.len = KG_KEY_ID_LEN;

    made = admin->made;

    (void) json_object_del(made, "legacy");
    (void) json_object_del(made, "rotatedTo");
    (void) json_object_del(made, "revokedAt");

    if (json_object_set_new(made, "id",
                            json_stringn((char *) p, KG_KEY_ID_LEN)) != 0
        || json_object_set_new(made, "createdAt",
                               ngx_http_keygate_admin_date(ngx_time())) != 0
        || ngx_http_keygate_admin_mark(admin, made) != NGX_OK
        || ngx_http_keygate_admin_select(admin, KG_ZONE_KEY, &admin->digest)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    rotate = admin->data;

    /* Without an overlap there is one key as before. */

    return rotate->overlap
           ? ngx_http_keygate_self_issue(admin,
                                         ngx_http_keygate_admin_rotate_made)
           : ngx_http_keygate_admin_issue(admin,
                                         ngx_http_keygate_admin_rotate_made);
}


static ngx_int_t
ngx_http_keygate_admin_rotate_made(ngx_http_keygate_admin_t *admin)
{
    ngx_http_keygate_admin_rotate_t  *rotate;

    rotate = admin->data;

    rotate->new_id = admin->key_id;
    rotate->new_digest = admin->digest;
    rotate->changes = json_pack("{s:{s:n, s:s%}}", "rotatedTo", "from", "to",
                                admin->key_id.data, admin->key_id.len);

    admin->key_id = rotate->old_id;
    admin->digest = rotate->old_digest;

    if (rotate->changes == NULL
        || ngx_http_keygate_admin_select(admin, KG_ZONE_KEY, &admin->digest)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    admin->doubt = ngx_http_keygate_admin_rotate_doubt;

    return ngx_http_keygate_admin_edit(admin,
                                       ngx_http_keygate_admin_rotate_end,
                                       ngx_http_keygate_admin_rotated);
}


/*
 * An old key that ends sooner anyway stays so.  Without an overlap it is
 * revoked, for an expiry is subject to the clocks' tolerance.
 *
 * One that was revoked since it was read has no successor: who revokes a key
 * and then looks for others must not miss one, and of two that rotate it at
 * once, without an overlap, one gets a key.
 */

static ngx_int_t
ngx_http_keygate_admin_rotate_end(ngx_http_keygate_admin_t *admin)
{
    int64_t                           end, expires;
    ngx_int_t                         rc;
    ngx_str_t                         text;
    ngx_http_keygate_admin_rotate_t  *rotate;

    rc = ngx_http_keygate_admin_key_check(admin);

    if (rc != NGX_OK) {
        return rc;
    }

    rotate = admin->data;
    end = (int64_t) ngx_time() + rotate->overlap;

    if (ngx_http_keygate_self_changed(admin)) {

        return (ngx_http_keygate_admin_rotate_new(admin) == NGX_OK)
               ? ngx_http_keygate_self_take_back(admin) : NGX_ERROR;
    }

    if (ngx_http_keygate_admin_has(admin->record, "revokedAt")) {

        return (ngx_http_keygate_admin_rotate_new(admin) == NGX_OK)
               ? ngx_http_keygate_admin_take_back(admin,
                                      ngx_http_keygate_admin_rotate_taken_back)
               : NGX_ERROR;
    }

    if (json_object_set_new(admin->record, "rotatedTo",
                            json_stringn((char *) rotate->new_id.data,
                                         rotate->new_id.len))
        != 0)
    {
        return NGX_ERROR;
    }

    text = ngx_http_keygate_admin_member(admin->record, "expiresAt");

    if (rotate->overlap
        && text.len
        && kg_time_parse(ngx_http_keygate_kg(&text), &expires) == KG_OK
        && expires <= end)
    {
        return NGX_OK;
    }

    return json_object_set_new(admin->record,
                               rotate->overlap ? "expiresAt" : "revokedAt",
                               ngx_http_keygate_admin_date(end))
           == 0 ? NGX_OK : NGX_ERROR;
}


/* Selects the new key: the write that follows is of no end. */

static ngx_int_t
ngx_http_keygate_admin_rotate_new(ngx_http_keygate_admin_t *admin)
{
    ngx_http_keygate_admin_rotate_t  *rotate;

    rotate = admin->data;
    admin->doubt = NULL;

    return ngx_http_keygate_admin_select(admin, KG_ZONE_KEY,
                                         &rotate->new_digest);
}


static ngx_int_t
ngx_http_keygate_admin_rotate_taken_back(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    if (!kg_redis_is(reply, REDIS_REPLY_INTEGER, 0)) {
        return NGX_ERROR;
    }

    admin->changed = 0;

    return ngx_http_keygate_admin_key_ended(admin);
}


static ngx_int_t
ngx_http_keygate_admin_rotate_doubt(ngx_http_keygate_admin_t *admin)
{
    admin->doubt = NULL;
    admin->outcome = "unknown";

    return ngx_http_keygate_admin_rotated(admin);
}


static ngx_int_t
ngx_http_keygate_admin_rotated(ngx_http_keygate_admin_t *admin)
{
    json_t                           *changes;
    ngx_http_keygate_admin_rotate_t  *rotate;

    rotate = admin->data;

    changes = ngx_http_keygate_admin_changes(admin->before, admin->record);

    if (json_object_update(changes, rotate->changes) != 0) {
        json_decref(changes);
        changes = NULL;
    }

    return ngx_http_keygate_admin_audit(admin, changes,
                                        ngx_http_keygate_admin_rotate_show);
}


static ngx_int_t
ngx_http_keygate_admin_rotate_show(ngx_http_keygate_admin_t *admin)
{
    json_t  *view, *replaces;

    static const ngx_http_keygate_admin_member_t  members[] = {
        { "id", JSON_NULL },
        { "expiresAt", JSON_NULL },
        { "revokedAt", JSON_NULL },
        { NULL, JSON_NULL }
    };

    /* Nobody has used the new key. */

    ngx_str_null(&admin->seen);

    view = ngx_http_keygate_admin_key_view(admin->made, &admin->seen);
    replaces = ngx_http_keygate_admin_view(admin->record, members);

    if (admin->outcome
        && json_object_set_new(replaces, "unconfirmed", json_true()) != 0)
    {
        json_decref(replaces);
        replaces = NULL;
    }

    if (json_object_set_new(view, "replaces", replaces) != 0) {
        json_decref(view);
        view = NULL;
    }

    return ngx_http_keygate_admin_answer(admin, NGX_HTTP_CREATED, view);
}
