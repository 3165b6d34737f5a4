
/*
 * Who calls may be narrowed or revoked while its call runs.  Its record is
 * looked at again after each write that gives or changes rights: who narrows a
 * key and then looks what it has done must not miss any of it, so either the
 * write was there by then, or it is taken back here.
 */

#include "ngx_http_keygate_admin_calls.h"
#include "ngx_http_keygate_self.h"


static ngx_int_t ngx_http_keygate_self_looked(ngx_http_keygate_admin_t *admin,
    const redisReply *reply);
static ngx_int_t ngx_http_keygate_self_taken_back(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);
static ngx_int_t ngx_http_keygate_self_confirmed(
    ngx_http_keygate_admin_t *admin, const redisReply *reply);
static ngx_int_t ngx_http_keygate_self_undo(ngx_http_keygate_admin_t *admin);
static ngx_int_t ngx_http_keygate_self_undo_member(
    ngx_http_keygate_admin_t *admin, const char *member);
static ngx_int_t ngx_http_keygate_self_undone(
    ngx_http_keygate_admin_t *admin);
static ngx_uint_t ngx_http_keygate_self_same(ngx_http_keygate_admin_t *admin,
    const redisReply *reply);
static ngx_int_t ngx_http_keygate_self_get_again(
    ngx_http_keygate_admin_t *admin, ngx_http_keygate_admin_step_pt step);


ngx_int_t
ngx_http_keygate_self_again(ngx_http_keygate_admin_t *admin)
{
    if (admin->self == NULL) {
        return admin->done(admin);
    }

    return ngx_http_keygate_self_get_again(admin,
                                           ngx_http_keygate_self_looked);
}


/*
 * Who revokes a key looks for what it made after that: either the new key was
 * there by then, or it is taken back here.
 */

static ngx_int_t
ngx_http_keygate_self_looked(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    return ngx_http_keygate_self_same(admin, reply)
           ? admin->done(admin) : ngx_http_keygate_self_take_back(admin);
}


ngx_uint_t
ngx_http_keygate_self_changed(ngx_http_keygate_admin_t *admin)
{
    return admin->self
           && ngx_http_keygate_self_own(admin)
           && !kg_str_eq(ngx_http_keygate_kg(&admin->stored),
                         ngx_http_keygate_kg(&admin->self->stored));
}


ngx_int_t
ngx_http_keygate_self_take_back(ngx_http_keygate_admin_t *admin)
{
    return ngx_http_keygate_admin_take_back(admin,
                                            ngx_http_keygate_self_taken_back);
}


static ngx_int_t
ngx_http_keygate_self_taken_back(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    if (!kg_redis_is(reply, REDIS_REPLY_INTEGER, 0)) {
        return NGX_ERROR;
    }

    admin->changed = 0;

    return ngx_http_keygate_admin_refuse(admin, KG_ERR_CONFLICT, NULL,
                                         "The calling key was changed "
                                         "meanwhile, nothing was made");
}


ngx_int_t
ngx_http_keygate_self_confirm(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_pt next)
{
    ngx_http_keygate_self_t  *self;

    self = admin->self;

    if (self == NULL || !admin->changed || ngx_http_keygate_self_own(admin)) {
        return next(admin);
    }

    self->next = next;
    self->from = json_incref(admin->before);
    self->to = json_deep_copy(admin->record);

    if (self->to == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_keygate_self_get_again(admin,
                                           ngx_http_keygate_self_confirmed);
}


static ngx_int_t
ngx_http_keygate_self_confirmed(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    if (ngx_http_keygate_self_same(admin, reply)) {
        return admin->self->next(admin);
    }

    return ngx_http_keygate_admin_edit(admin, ngx_http_keygate_self_undo,
                                       ngx_http_keygate_self_undone);
}


/* What others have made of it since stays. */

static ngx_int_t
ngx_http_keygate_self_undo(ngx_http_keygate_admin_t *admin)
{
    json_t                   *value;
    const char               *member;
    ngx_http_keygate_self_t  *self;

    self = admin->self;

    if (admin->record == NULL) {
        return NGX_DECLINED;
    }

    json_object_foreach(self->from, member, value) {
        if (ngx_http_keygate_self_undo_member(admin, member) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    json_object_foreach(self->to, member, value) {
        if (ngx_http_keygate_self_undo_member(admin, member) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_keygate_self_undo_member(ngx_http_keygate_admin_t *admin,
    const char *member)
{
    json_t  *from, *to, *now;

    from = json_object_get(admin->self->from, member);
    to = json_object_get(admin->self->to, member);
    now = json_object_get(admin->record, member);

    if (now != to && !json_equal(now, to)) {
        return NGX_OK;
    }

    if (from == NULL) {
        (void) json_object_del(admin->record, member);
        return NGX_OK;
    }

    return json_object_set(admin->record, member, from) == 0 ? NGX_OK
                                                             : NGX_ERROR;
}


static ngx_int_t
ngx_http_keygate_self_undone(ngx_http_keygate_admin_t *admin)
{
    admin->changed = 0;

    return ngx_http_keygate_self_meanwhile(admin);
}


ngx_int_t
ngx_http_keygate_self_meanwhile(ngx_http_keygate_admin_t *admin)
{
    return ngx_http_keygate_admin_refuse(admin, KG_ERR_CONFLICT, NULL,
                                         "The calling key was changed "
                                         "meanwhile, nothing was changed");
}


/* 1 when the record of who calls is what the call began with. */

static ngx_uint_t
ngx_http_keygate_self_same(ngx_http_keygate_admin_t *admin,
    const redisReply *reply)
{
    ngx_str_t  text;

    if (!kg_redis_is(reply, REDIS_REPLY_STRING, 0)) {
        return 0;
    }

    text.data = (u_char *) reply->str;
    text.len = reply->len;

    return kg_str_eq(ngx_http_keygate_kg(&text),
                     ngx_http_keygate_kg(&admin->self->stored));
}


static ngx_int_t
ngx_http_keygate_self_get_again(ngx_http_keygate_admin_t *admin,
    ngx_http_keygate_admin_step_pt step)
{
    ngx_str_t  argv[2];

    ngx_str_set(&argv[0], "GET");
    argv[1] = admin->self->name;

    return ngx_http_keygate_admin_ask(admin, argv, 2, &admin->self->slot,
                                      step);
}
