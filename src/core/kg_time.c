
/*
 * Dates: RFC 3339 to seconds since the epoch and back.
 *
 * The C library's own functions read the time zone of the process or lose the
 * offset, so the little arithmetic there is, is here.  Days are counted in the
 * proleptic Gregorian calendar with the year beginning in March, which puts
 * the leap day at the end of the year.
 */

#include "kg_time.h"


#define KG_TIME_MAX    253402300799     /* 9999-12-31T23:59:59Z */

#define KG_DAY         86400
#define KG_ERA_DAYS    146097           /* days in 400 years */
#define KG_EPOCH_DAYS  719468           /* from 0000-03-01 to 1970-01-01 */


typedef struct {
    int  year;
    int  month;     /* 1 .. 12 */
    int  day;       /* 1 .. 31 */
} kg_date_t;


static int kg_two_digits(const unsigned char *p);
static int kg_month_days(int year, int month);
static kg_rc_t kg_date_parse(const unsigned char *p, kg_date_t *date);
static kg_rc_t kg_offset_parse(const unsigned char *p, size_t len,
    int *offset);
static int64_t kg_days_from_date(const kg_date_t *date);
static void kg_date_from_days(int64_t days, kg_date_t *date);
static unsigned char *kg_put_two(unsigned char *dst, int n);


kg_rc_t
kg_time_parse(const kg_str_t *text, int64_t *seconds)
{
    int             hour, minute, second, offset;
    size_t          i;
    int64_t         t;
    kg_date_t       date;
    unsigned char  *p;

    p = text->data;

    if (text->len < KG_TIME_LEN
        || kg_date_parse(p, &date) != KG_OK
        || (p[10] != 'T' && p[10] != 't')
        || p[13] != ':' || p[16] != ':')
    {
        return KG_INVALID;
    }

    hour = kg_two_digits(p + 11);
    minute = kg_two_digits(p + 14);
    second = kg_two_digits(p + 17);

    if (hour < 0 || hour > 23 || minute < 0 || minute > 59
        || second < 0 || second > 60)
    {
        return KG_INVALID;
    }

    i = 19;

    if (p[i] == '.') {
        i++;

        while (i < text->len && p[i] >= '0' && p[i] <= '9') {
            i++;
        }

        if (i == 20) {
            return KG_INVALID;
        }
    }

    if (kg_offset_parse(p + i, text->len - i, &offset) != KG_OK) {
        return KG_INVALID;
    }

    t = kg_days_from_date(&date) * KG_DAY + hour * 3600 + minute * 60 + second
        - offset;

    if (t < 0 || t > KG_TIME_MAX) {
        return KG_INVALID;
    }

    if (second == 60) {

        /*
         * A leap second ends a month, in UTC (RFC 3339, 5.7), so the second
         * after :59 is the first of the next one; elsewhere :60 is a slip.
         */

        kg_date_from_days(t / KG_DAY, &date);

        if (t % KG_DAY != 0 || date.day != 1) {
            return KG_INVALID;
        }
    }

    *seconds = t;

    return KG_OK;
}


unsigned char *
kg_time_format(int64_t seconds, unsigned char *dst)
{
    int        rest;
    kg_date_t  date;

    if (seconds < 0) {
        seconds = 0;

    } else if (seconds > KG_TIME_MAX) {
        seconds = KG_TIME_MAX;
    }

    kg_date_from_days(seconds / KG_DAY, &date);
    rest = (int) (seconds % KG_DAY);

    dst = kg_put_two(dst, date.year / 100);
    dst = kg_put_two(dst, date.year % 100);
    *dst++ = '-';
    dst = kg_put_two(dst, date.month);
    *dst++ = '-';
    dst = kg_put_two(dst, date.day);
    *dst++ = 'T';
    dst = kg_put_two(dst, rest / 3600);
    *dst++ = ':';
    dst = kg_put_two(dst, rest / 60 % 60);
    *dst++ = ':';
    dst = kg_put_two(dst, rest % 60);
    *dst++ = 'Z';

    return dst;
}


uint32_t
kg_day(int64_t seconds)
{
    if (seconds < 0) {
        return 0;
    }

    if (seconds > KG_TIME_MAX) {
        seconds = KG_TIME_MAX;
    }

    return (uint32_t) (seconds / KG_DAY);
}


unsigned char *
kg_day_format(uint32_t day, unsigned char *dst)
{
    kg_date_t  date;

    if (day > KG_TIME_MAX / KG_DAY) {
        day = KG_TIME_MAX / KG_DAY;
    }

    kg_date_from_days(day, &date);

    dst = kg_put_two(dst, date.year / 100);
    dst = kg_put_two(dst, date.year % 100);
    dst = kg_put_two(dst, date.month);

    return kg_put_two(dst, date.day);
}


/* 0 .. 99, or -1 when the two bytes are not digits. */

static int
kg_two_digits(const unsigned char *p)
{
    if (p[0] < '0' || p[0] > '9' || p[1] < '0' || p[1] > '9') {
        return -1;
    }

    return (p[0] - '0') * 10 + (p[1] - '0');
}


static int
kg_month_days(int year, int month)
{
    static const unsigned char  days[] = {
        31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31
    };

    if (month == 2
        && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0))
    {
        return 29;
    }

    return days[month - 1];
}


/* Ten bytes, YYYY-MM-DD. */

static kg_rc_t
kg_date_parse(const unsigned char *p, kg_date_t *date)
{
    int  century, year;

    century = kg_two_digits(p);
    year = kg_two_digits(p + 2);

    if (century < 0 || year < 0 || p[4] != '-' || p[7] != '-') {
        return KG_INVALID;
    }

    date->year = century * 100 + year;
    date->month = kg_two_digits(p + 5);
    date->day = kg_two_digits(p + 8);

    if (date->month < 1 || date->month > 12
        || date->day < 1
        || date->day > kg_month_days(date->year, date->month))
    {
        return KG_INVALID;
    }

    return KG_OK;
}


/* "Z", or "+hh:mm" as seconds east of UTC; nothing may follow. */

static kg_rc_t
kg_offset_parse(const unsigned char *p, size_t len, int *offset)
{
    int  hour, minute;

    if (len == 1 && (p[0] == 'Z' || p[0] == 'z')) {
        *offset = 0;
        return KG_OK;
    }

    if (len != 6 || (p[0] != '+' && p[0] != '-') || p[3] != ':') {
        return KG_INVALID;
    }

    hour = kg_two_digits(p + 1);
    minute = kg_two_digits(p + 4);

    if (hour < 0 || hour > 23 || minute < 0 || minute > 59) {
        return KG_INVALID;
    }

    *offset = hour * 3600 + minute * 60;

    if (p[0] == '-') {
        *offset = -*offset;
    }

    return KG_OK;
}


/* Days from the epoch to a date of the years 0 to 9999. */

static int64_t
kg_days_from_date(const kg_date_t *date)
{
    int64_t  year, era, year_of_era, day_of_year;

    /* one era more, so that January of the year 0 divides like the others */
    year = date->year + 400 - (date->month <= 2);
    era = year / 400;
    year_of_era = year % 400;
    day_of_year = (153 * ((date->month + 9) % 12) + 2) / 5 + date->day - 1;

    return (era - 1) * KG_ERA_DAYS + year_of_era * 365 + year_of_era / 4
           - year_of_era / 100 + day_of_year - KG_EPOCH_DAYS;
}


/* The inverse, for days that are not negative. */

static void
kg_date_from_days(int64_t days, kg_date_t *date)
{
    int64_t  era, day_of_era, year_of_era, day_of_year, month;

    days += KG_EPOCH_DAYS;
    era = days / KG_ERA_DAYS;
    day_of_era = days % KG_ERA_DAYS;

    /* the days that leap years added, taken off before dividing by 365 */
    year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524
                   - day_of_era / 146096) / 365;

    day_of_year = day_of_era - (year_of_era * 365 + year_of_era / 4
                                - year_of_era / 100);
    month = (5 * day_of_year + 2) / 153;

    date->day = (int) (day_of_year - (153 * month + 2) / 5 + 1);
    date->month = (int) (month < 10 ? month + 3 : month - 9);
    date->year = (int) (era * 400 + year_of_era + (date->month <= 2));
}


static unsigned char *
kg_put_two(unsigned char *dst, int n)
{
    *dst++ = (unsigned char) ('0' + n / 10);
    *dst++ = (unsigned char) ('0' + n % 10);

    return dst;
}
