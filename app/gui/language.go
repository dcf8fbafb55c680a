package gui

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/lang"

	"wayfarer/assets"
)

// languages that there are catalogues for, by their own names.
var languages = []struct{ code, name string }{
	{"", ""}, // the system's
	{"en", "English"},
	{"de", "Deutsch"},
	{"fr", "Français"},
	{"es", "Español"},
	{"pl", "Polski"},
	{"pt", "Português"},
	{"it", "Italiano"},
	{"nl", "Nederlands"},
	{"cs", "Čeština"},
	{"ja", "日本語"},
}

func languageNames() []string {
	names := make([]string, len(languages))
	for i, l := range languages {
		names[i] = l.name
	}
	names[0] = lang.L("As the system")
	return names
}

func languageIndex(code string) int {
	return max(0, slices.IndexFunc(languages, func(l struct{ code, name string }) bool { return l.code == code }))
}

// languageVariable is what gettext, and Fyne on Linux, look at first.
const languageVariable = "LANGUAGE"

// systemLanguage is what that variable said when the program started.
var systemLanguage, hadSystemLanguage = os.LookupEnv(languageVariable)

// useLanguage loads the catalogues for a language; empty is the system's. Where Fyne
// asks the system and not the environment, the catalogue is offered as that of the
// system's language; what is Fyne's own stays in that then.
func useLanguage(code string) error {
	switch {
	case code != "":
		os.Setenv(languageVariable, code)
	case hadSystemLanguage:
		os.Setenv(languageVariable, systemLanguage)
	default:
		os.Unsetenv(languageVariable)
	}
	if err := lang.AddTranslationsFS(assets.Translations, "translations"); err != nil {
		return fmt.Errorf("load the translations: %w", err)
	}
	system := lang.SystemLocale()
	if code == "" || strings.HasPrefix(system.String(), code) {
		return nil
	}
	data, err := assets.Translations.ReadFile("translations/" + code + ".json")
	if err != nil {
		return fmt.Errorf("load the translation: %w", err)
	}
	return lang.AddTranslationsForLocale(data, fyne.Locale(system))
}
