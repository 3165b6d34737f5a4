
/*
 * SipHash-1-3 of 128 bits: a keyed hash of names for tables.  Who does not know
 * the key cannot make two names alike, and of random ones none ever are; and it
 * takes a fifth of MD5's time.  It is no signature.
 */

#ifndef KG_SIP_H
#define KG_SIP_H

#include "kg_core.h"


#define KG_SIP_LEN  16      /* bytes of a key, and of a hash */


/* The hash of a text into out, which may be where the key is. */
void kg_sip(const unsigned char key[KG_SIP_LEN], const kg_str_t *text,
    unsigned char out[KG_SIP_LEN]);

#endif
